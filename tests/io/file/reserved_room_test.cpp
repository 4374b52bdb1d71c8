// Disk space that is held without a name, and logs on a full disk.
#include "io/file/reserved_room.hpp"

#include <gtest/gtest.h>

#include "io/file/appended_file.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

TEST(ReservedRoom, TakesAndGivesBackSpaceWithoutAName) {
  const TemporaryDirectory directory;
  constexpr int64_t kBytes = int64_t{256} << 20;
  const int64_t before = free_disk_bytes(directory.path());
  ReservedRoom room(directory.path(), kBytes);
  ASSERT_TRUE(room.take());
  EXPECT_TRUE(room.take());
  EXPECT_LT(free_disk_bytes(directory.path()), before - kBytes / 2);  // others write to this disk, too
  EXPECT_EQ(directory.num_entries(), 0u);
  room.give_back();
  EXPECT_GT(free_disk_bytes(directory.path()), before - kBytes / 2);
}

TEST(ReservedRoom, SaysWhereTheDiskHasLess) {
  const TemporaryDirectory directory;
  ReservedRoom room(directory.path(), free_disk_bytes(directory.path()) + (int64_t{1} << 40));
  EXPECT_FALSE(room.take());
  EXPECT_EQ(directory.num_entries(), 0u);
}

TEST(AppendedFile, KeepsLinesOfAFullDisk) {
  const TemporaryDirectory directory;
  {
    AppendedFile file(directory / "log");
    file.append("a\n");
    EXPECT_EQ(directory.read("log"), "a\n");
    file.append("b\n");
    file.sync();
  }
  AppendedFile(directory / "log").append("c\n");
  EXPECT_EQ(directory.read("log"), "a\nb\nc\n");
  AppendedFile full("/dev/full");  // a device without room
  full.append("lost\n");
  full.append("lost, too\n");
  expect_contains(message_of<InputOutputError>([&] { full.sync(); }), {"/dev/full", "No space left on device"});
}

}  // namespace
}  // namespace plumb
