// Checkpoints: what one number of ranks saves any other reads back to the bit; whatever is damaged in one is found; and
// a save that fails leaves what was there before.
#include "io/checkpoint/checkpoint.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>

#include "io/checkpoint/directory.hpp"
#include "lib/base/random.hpp"
#include "lib/model/parameters.hpp"
#include "tests/support/shared_directory.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

namespace fs = std::filesystem;

/// The shards of one rank, with a value of its own in every element and array that does not depend on how it is cut.
class Shards {
 public:
  Shards(int rank, int num_ranks, bool is_8bit, bool is_filled) {
    for (UnitLayout& unit : unit_layouts(test::tiny_config()))
      layouts_.push_back(std::make_unique<ShardLayout>(std::move(unit), num_ranks));
    for (const auto& layout : layouts_) {
      parameters_.emplace_back(layout->shard_elements());
      moments_.push_back(std::make_unique<AdamWState>(layout->shard_elements(), is_8bit));
      shards_.push_back({layout.get(), parameters_.back(), moments_.back().get()});
      if (is_filled) fill(shards_.back(), layout->shard(rank), layout->unit().num_elements);
    }
  }

  std::span<const TrainedShard> get() const { return shards_; }

  /// All stored bytes of this rank.
  std::string bytes() const {
    std::string text;
    for (const TrainedShard& shard : shards_) {
      append(text, std::as_bytes(shard.parameters));
      for (const std::span<std::byte> array : shard.moments->bytes()) append(text, array);
    }
    return text;
  }

 private:
  static void append(std::string& text, std::span<const std::byte> bytes) {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  static void fill(const TrainedShard& shard, ElementRange range, int64_t num_elements) {
    const int64_t count = std::max<int64_t>(0, std::min(range.end, num_elements) - range.begin);
    for (int64_t i = 0; i < count; ++i) shard.parameters[i] = static_cast<float>(range.begin + i) + 0.5f;
    const std::vector<MomentPiece> pieces = moment_pieces(shard.moments->is_8bit());
    const auto arrays = shard.moments->bytes();
    for (size_t a = 0; a < arrays.size(); ++a) {
      const int64_t first = pieces[a].num_bytes(range.begin);
      for (int64_t i = 0; i < pieces[a].num_bytes(count); ++i)
        arrays[a][i] = static_cast<std::byte>(random_bits(7, a, static_cast<uint64_t>(first + i)) & 0xff);
    }
  }

  std::vector<std::unique_ptr<ShardLayout>> layouts_;
  std::vector<std::vector<float>> parameters_;
  std::vector<std::unique_ptr<AdamWState>> moments_;
  std::vector<TrainedShard> shards_;
};

class CheckpointTest : public testing::Test {
 protected:
  Shards filled(bool is_8bit = false) const { return {comm_.rank(), comm_.size(), is_8bit, true}; }
  Shards empty(bool is_8bit = false) const { return {comm_.rank(), comm_.size(), is_8bit, false}; }
  void save(int64_t step, const Shards& shards) const {
    CheckpointSave(comm_, checkpoints(), step, {{"total_tokens", step * 10}}, shards.get(), nullptr).finish();
  }
  std::string checkpoints() const { return directory_ / "checkpoints"; }
  std::string path(int64_t step) const { return checkpoints() + "/" + checkpoint_name(step); }

  /// Rank 0 changes a file, and everyone sees it.
  void change(const std::function<void()>& body) const {
    comm_.barrier();
    if (comm_.rank() == 0) body();
    comm_.barrier();
  }

  Communicator comm_;
  SharedDirectory directory_{comm_};
};

TEST_F(CheckpointTest, ComesBackAsItWasSaved) {
  for (const bool is_8bit : {false, true}) {
    const Shards saved = filled(is_8bit);
    save(is_8bit ? 2 : 1, saved);
    const Checkpoint checkpoint = open_checkpoint(comm_, path(is_8bit ? 2 : 1));
    EXPECT_EQ(checkpoint.manifest.num_ranks(), comm_.size());
    EXPECT_EQ(checkpoint.manifest.run["total_tokens"], is_8bit ? 20 : 10);
    const Shards restored = empty(is_8bit);
    EXPECT_NE(restored.bytes(), saved.bytes());
    restore_checkpoint(comm_, checkpoint, restored.get());
    EXPECT_EQ(restored.bytes(), saved.bytes());
    EXPECT_EQ(directory_.num_entries(), 1);
  }
}

TEST_F(CheckpointTest, ComesBackOnAnyNumberOfRanks) {
  const Communicator alone(0, MPI_COMM_SELF);
  for (const bool is_8bit : {false, true}) {
    const int64_t step = is_8bit ? 20 : 10;
    save(step, filled(is_8bit));
    if (comm_.rank() == 0) {  // all to one
      const Shards restored(0, 1, is_8bit, false);
      restore_checkpoint(alone, open_checkpoint(alone, path(step)), restored.get());
      EXPECT_EQ(restored.bytes(), Shards(0, 1, is_8bit, true).bytes());
      CheckpointSave(alone, checkpoints(), step + 1, {}, restored.get(), nullptr).finish();
    }
    comm_.barrier();
    const Shards restored = empty(is_8bit);  // and one to all
    restore_checkpoint(comm_, open_checkpoint(comm_, path(step + 1)), restored.get());
    EXPECT_EQ(restored.bytes(), filled(is_8bit).bytes());
  }
}

TEST_F(CheckpointTest, EveryDamageIsFound) {
  save(1, filled());
  std::vector<std::string> names = {"COMMIT", "manifest.json"};
  for (int rank = 0; rank < comm_.size(); ++rank) names.push_back(checkpoint_file_name(rank, comm_.size()));
  for (const std::string& name : names) {
    const std::string file = path(1) + "/" + name, relative = "checkpoints/" + checkpoint_name(1) + "/" + name;
    const std::string intact = directory_.read(relative);
    const int num_tries = name.starts_with("rank") ? 40 : 20;
    for (int i = 0; i < num_tries; ++i) {
      std::string damaged = intact;
      const auto at = static_cast<size_t>(random_bits(3, static_cast<uint64_t>(i), damaged.size()) % damaged.size());
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << (i % 8)));
      directory_.write(relative, damaged);
      EXPECT_NE(agreed_message_of(kExitData, [&] { open_checkpoint(comm_, path(1)); }), "") << name << " byte " << at;
    }
    for (const size_t size : {size_t{0}, intact.size() / 2, intact.size() - 1}) {
      directory_.write(relative, intact.substr(0, size));
      EXPECT_NE(agreed_message_of(kExitData, [&] { open_checkpoint(comm_, path(1)); }), "") << name;
    }
    directory_.write(relative, intact + "x");
    EXPECT_NE(agreed_message_of(kExitData, [&] { open_checkpoint(comm_, path(1)); }), "") << name;
    directory_.write(relative, intact);
    change([&] { fs::rename(file, file + ".gone"); });
    bool is_refused = false;
    try {
      open_checkpoint(comm_, path(1));
    } catch (const AgreedError& error) {
      is_refused = true;
    }
    EXPECT_TRUE(is_refused) << name;
    change([&] { fs::rename(file + ".gone", file); });
  }
  open_checkpoint(comm_, path(1));
}

TEST_F(CheckpointTest, OtherUnitsAreRefused) {
  save(1, filled());
  const std::string message = agreed_message_of(
      kExitData, [&] { restore_checkpoint(comm_, open_checkpoint(comm_, path(1)), empty(/*is_8bit=*/true).get()); });
  EXPECT_NE(message.find("moments"), std::string::npos);
}

TEST_F(CheckpointTest, AFailedSaveLeavesNothingAndKeepsWhatIsThere) {
  save(1, filled());
  const std::string blocker = checkpoints() + "/" + checkpoint_name(2);
  change([&] { fs::permissions(checkpoints(), fs::perms::owner_read | fs::perms::owner_exec); });
  if (::geteuid() != 0) {
    EXPECT_NE(agreed_message_of(kExitInputOutput, [&] { save(2, filled()); }), "");
  }
  change([&] { fs::permissions(checkpoints(), fs::perms::owner_all); });
  change([&] { std::ofstream(blocker) << "in the way"; });
  EXPECT_NE(agreed_message_of(kExitInputOutput, [&] { save(2, filled()); }), "");
  change([&] { fs::remove(blocker); });
  {
    const Shards shards = filled();
    CheckpointSave written(comm_, checkpoints(), 2, {}, shards.get(), nullptr);
    change([&] { std::ofstream(blocker) << "in the way"; });  // found when all is written
    EXPECT_NE(agreed_message_of(kExitInputOutput, [&] { written.finish(); }), "");
  }
  if (comm_.rank() == 0) {
    EXPECT_EQ(std::distance(fs::directory_iterator(checkpoints()), fs::directory_iterator()), 2);
  }
  open_checkpoint(comm_, path(1));
}

TEST_F(CheckpointTest, TheSameStepAgainTakesThePlaceOfTheOldOne) {
  save(1, empty());
  save(1, filled());
  const Shards restored = empty();
  restore_checkpoint(comm_, open_checkpoint(comm_, path(1)), restored.get());
  EXPECT_EQ(restored.bytes(), filled().bytes());
  if (comm_.rank() == 0) {
    EXPECT_EQ(std::distance(fs::directory_iterator(checkpoints()), fs::directory_iterator()), 1);
  }
}

TEST_F(CheckpointTest, TheNewestStayAndOthersFilesAreLeftAlone) {
  for (const int64_t step : {5, 10, 15, 1'000'000, 20}) save(step, empty());
  change([&] {
    fs::create_directory(checkpoints() + "/step-mine");
    fs::create_directory(checkpoints() + "/step-000007.new.tmp-abcdef");
    prune_checkpoints(checkpoints(), 20, 2);
    std::vector<int64_t> steps;
    for (const CheckpointPlace& place : list_checkpoints(checkpoints())) steps.push_back(place.step);
    EXPECT_EQ(steps, (std::vector<int64_t>{1'000'000, 20, 15}));  // one beyond is not this run's business
    remove_unfinished_checkpoints(checkpoints());
    EXPECT_TRUE(fs::exists(checkpoints() + "/step-mine"));
    EXPECT_FALSE(fs::exists(checkpoints() + "/step-000007.new.tmp-abcdef"));
    EXPECT_TRUE(list_checkpoints(checkpoints() + "/none").empty());
  });
}

}  // namespace
}  // namespace plumb
