#include "io/file/atomic_directory.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/host_name.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

namespace fs = std::filesystem;

class AtomicDirectoryTest : public testing::Test {
 protected:
  void publish(const std::string& path, ExistingDirectory existing) {
    AtomicDirectory made(path, existing);
    write_new_file(made.temporary_path() + "/config.json", "new");
    made.publish();
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "target";
};

TEST_F(AtomicDirectoryTest, AppearsCompleteOrNotAtAll) {
  {
    const AtomicDirectory abandoned(path_);
    write_new_file(abandoned.temporary_path() + "/config.json", "new");
    EXPECT_FALSE(fs::exists(path_));
    EXPECT_EQ(directory_.num_entries(), 1u);
    EXPECT_TRUE(abandoned.temporary_path().starts_with(path_ + ".tmp-")) << "or clean-up does not find it";
  }
  EXPECT_EQ(directory_.num_entries(), 0u);
  AtomicDirectory made(path_);
  write_new_file(made.temporary_path() + "/config.json", "new");
  made.publish();
  EXPECT_EQ(directory_.read("target/config.json"), "new");
  EXPECT_EQ(directory_.num_entries(), 1u);
}

TEST_F(AtomicDirectoryTest, ReplacesAModelOnlyWhenAllowed) {
  fs::create_directory(path_);
  directory_.write("target/config.json", "old");
  directory_.write("target/old_file", "old");
  expect_contains(message_of<UsageError>([&] { AtomicDirectory{path_}; }), {"target", "new or empty"});
  publish(path_ + "/", ExistingDirectory::kReplace);
  EXPECT_EQ(directory_.read("target/config.json"), "new");
  EXPECT_FALSE(fs::exists(path_ + "/old_file"));
  EXPECT_EQ(directory_.num_entries(), 1u);
}

TEST_F(AtomicDirectoryTest, DoesNotReplaceWhatAppearedMeanwhile) {
  AtomicDirectory made(path_);
  fs::create_directory(path_);
  directory_.write("target/config.json", "old");
  expect_contains(message_of<UsageError>([&] { made.publish(); }), {"target", "new or empty"});
  EXPECT_EQ(directory_.read("target/config.json"), "old");
}

TEST_F(AtomicDirectoryTest, ReplacesWhatIsNotAModelOnlyWhereItIsPlumbsOwn) {
  fs::create_directory(path_);
  directory_.write("target/thesis.tex", "dear");
  expect_contains(message_of<UsageError>([&] { AtomicDirectory(path_, ExistingDirectory::kReplace); }),
                  {"target", "without config.json"});
  const std::string file = directory_.write("file", "x");
  expect_contains(message_of<UsageError>([&] { AtomicDirectory(file, ExistingDirectory::kReplace); }), {"got a file"});
  expect_contains(message_of<InputOutputError>([&] { AtomicDirectory(file, ExistingDirectory::kReplaceAnything); }),
                  {"got a file"});
  EXPECT_EQ(directory_.read("target/thesis.tex"), "dear");
  publish(path_, ExistingDirectory::kReplaceAnything);
  EXPECT_FALSE(fs::exists(path_ + "/thesis.tex"));
}

TEST_F(AtomicDirectoryTest, TakesAnEmptyDirectoryAndMakesParents) {
  fs::create_directory(path_);
  publish(path_, ExistingDirectory::kRefuse);
  EXPECT_EQ(directory_.read("target/config.json"), "new");
  const std::string deep = directory_ / "a/b/c/";
  publish(deep, ExistingDirectory::kRefuse);
  EXPECT_TRUE(fs::is_directory(directory_ / "a/b/c"));
  EXPECT_NE(fs::status(deep).permissions() & fs::perms::group_read, fs::perms::none);
}

TEST_F(AtomicDirectoryTest, ReusesTheTemporaryNameOfAKilledProcess) {
  fs::create_directory(temporary_path_of(path_));
  directory_.write(fs::path(temporary_path_of(path_)).filename().string() + "/left", "x");
  publish(path_, ExistingDirectory::kRefuse);
  EXPECT_FALSE(fs::exists(path_ + "/left"));
  EXPECT_EQ(directory_.num_entries(), 1u);
}

TEST_F(AtomicDirectoryTest, IsRemovedWholeAndOnlyUnderATemporaryName) {
  publish(path_, ExistingDirectory::kRefuse);
  remove_temporary(path_);
  EXPECT_TRUE(fs::exists(path_));
  remove_atomically(path_);
  EXPECT_EQ(directory_.num_entries(), 0u);
  EXPECT_THROW(remove_atomically(path_), InputOutputError);
  fs::create_directory(path_ + ".tmp-abcdef");
  remove_temporary(path_ + ".tmp-abcdef");
  EXPECT_EQ(directory_.num_entries(), 0u);
}

TEST(TemporaryName, NamesItsProcess) {
  const std::optional<TemporaryName> name = parse_temporary_name(temporary_path_of("a.tmp-b"));
  ASSERT_TRUE(name);
  EXPECT_EQ(name->name, "a.tmp-b");
  EXPECT_EQ(name->host, host_name());
  EXPECT_EQ(name->process, ::getpid());
  EXPECT_EQ(parse_temporary_name("x.tmp-my-host-7")->host, "my-host");
  for (const char* other : {"", "a", "a.tmp-", "a.tmp-7", "a.tmp-host-", "a.tmp-host-7x", "a.tmp-old", "a-host-7"})
    EXPECT_FALSE(parse_temporary_name(other)) << other;
}

TEST(AtomicFile, AppearsWhenItIsPublishedAndLeavesNothingWithoutThat) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("a", "old");
  {
    const AtomicFile abandoned(path);
    write_new_file(abandoned.temporary_path(), "part");
    EXPECT_EQ(directory.num_entries(), 2u);
  }
  EXPECT_EQ(directory.num_entries(), 1u);
  EXPECT_EQ(directory.read("a"), "old");
  write_new_file(temporary_path_of(path), "of a killed process");
  AtomicFile made(path);
  write_new_file(made.temporary_path(), "new");
  made.publish();
  EXPECT_EQ(directory.read("a"), "new");
  EXPECT_EQ(directory.num_entries(), 1u);
}

}  // namespace
}  // namespace plumb
