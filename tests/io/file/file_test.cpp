#include "io/file/file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <csignal>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(File, ReadsAndWritesExactRanges) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a";
  File written = File::create(path);
  written.reserve(10);
  written.pwrite_exact(bytes_of("xyz"), 4);
  written.pwrite_exact({}, 99);
  written.sync();
  written.close();
  EXPECT_EQ(directory.read("a"), std::string("\0\0\0\0xyz\0\0\0", 10));
  const File file = File::open_for_reading(path);
  EXPECT_EQ(file.size_bytes(), 10);
  std::string text(2, ' ');
  file.pread_exact(std::as_writable_bytes(std::span(text)), 5);
  EXPECT_EQ(text, "yz");
}

TEST(File, SaysWhereAFileEndsTooEarly) {
  const TemporaryDirectory directory;
  const File file = File::open_for_reading(directory.write("short", "0123456789"));
  std::vector<std::byte> bytes(8);
  expect_contains(message_of<DataError>([&] { file.pread_exact(bytes, 6); }), {"short", "offset 10", "4 more bytes"});
}

TEST(File, NamesThePathAndTheReasonOfAFailedOpen) {
  const TemporaryDirectory directory;
  const std::string present = directory.write("present", "x");
  const auto message = [](auto call) { return message_of<InputOutputError>(call); };
  expect_contains(message([&] { File::open_for_reading(directory / "absent"); }), {"/absent", "No such file"});
  expect_contains(message([&] { File::create(present); }), {"/present", "File exists"});
  expect_contains(message([&] { File::open_for_reading(directory.path()); }), {directory.path(), "a directory"});
  expect_contains(message([&] { File::open_for_writing(directory.path()); }), {directory.path(), "directory"});
  expect_contains(message([&] { File::open_for_reading(std::string("a\0b", 3)); }), {"NUL"});
  EXPECT_EQ(directory.read("present"), "x");
}

TEST(File, DoesNotWaitForAPipe) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
  expect_contains(message_of<InputOutputError>([&] { read_text_file(directory / "pipe", 100); }), {"special file"});
}

TEST(File, MovesItsDescriptor) {
  const TemporaryDirectory directory;
  File first = File::open_for_reading(directory.write("a", "1"));
  File second = File::open_for_reading(directory.write("b", "22"));
  first = std::move(second);
  EXPECT_EQ(first.size_bytes(), 2);
  const File third = std::move(first);
  EXPECT_EQ(third.size_bytes(), 2);
  EXPECT_EQ(third.path(), directory / "b");
}

TEST(File, RefusesToReserveMoreThanTheDiskHas) {
  const TemporaryDirectory directory;
  struct statvfs disk = {};
  ASSERT_EQ(::statvfs(directory.path().c_str(), &disk), 0);
  const auto too_much = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize) + (int64_t{1} << 32);
  const File file = File::create(directory / "big");
  expect_contains(message_of<InputOutputError>([&] { file.reserve(too_much); }), {"big", std::to_string(too_much)});
}

TEST(File, ContinuesAShortWriteAndReportsWhyItStopped) {
  // a limit on the file size lets a write through in part, then fails the rest
  const TemporaryDirectory directory;
  struct rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const old_handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit limited = before;
  limited.rlim_cur = 6;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  const File file = File::create(directory / "limited");
  const std::string message = message_of<InputOutputError>([&] { file.pwrite_exact(bytes_of("0123456789"), 0); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  expect_contains(message, {"limited", "write 4 bytes at offset 6", "File too large"});
  EXPECT_EQ(directory.read("limited"), "012345");
}

TEST(ReadTextFile, StopsAtTheLimit) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("text", "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  expect_contains(message_of<DataError>([&] { read_text_file(path, 4); }), {"text", "at most 4 bytes", "got 5"});
}

TEST(WriteFileAtomically, ReplacesAndLeavesNothingElse) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("a", "old");
  write_file_atomically(path, "new");
  EXPECT_EQ(directory.read("a"), "new");
  EXPECT_EQ(directory.num_entries(), 1u);
}

TEST(WriteFileAtomically, KeepsTheOldContentWhenItFails) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "target");
  directory.write("target/inside", "kept");
  expect_contains(message_of<InputOutputError>([&] { write_file_atomically(directory / "target", "new"); }),
                  {"rename"});
  EXPECT_EQ(directory.read("target/inside"), "kept");
  EXPECT_EQ(directory.num_entries(), 1u);
}

TEST(CopyFile, CopiesMoreThanOneBuffer) {
  const TemporaryDirectory directory;
  std::string content((3 << 20) + 17, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 2654435761u >> 13);
  copy_file(directory.write("a", content), directory / "b");
  EXPECT_TRUE(directory.read("b") == content);
  copy_file(directory.write("empty", ""), directory / "empty2");
  EXPECT_EQ(directory.read("empty2"), "");
}

TEST(Paths, JoinAndSplit) {
  EXPECT_EQ(join_path("a", "b"), "a/b");
  EXPECT_EQ(join_path("a/", "b"), "a/b");
  EXPECT_EQ(join_path("", "b"), "b");
  EXPECT_EQ(parent_path("a/b//"), "a");
  EXPECT_EQ(parent_path("b"), ".");
  EXPECT_EQ(parent_path("/b"), "/");
  EXPECT_EQ(parent_path("/"), "/");
}

}  // namespace
}  // namespace plumb
