#include "partition/shard_checksums.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

TEST(ShardChecksums, AnyFlippedBitIsFoundAndNamed) {
  for (const bool is_8bit : {false, true}) {
    std::vector<ShardLayout> layouts;
    for (UnitLayout& unit : unit_layouts(test::tiny_config())) layouts.emplace_back(std::move(unit), 3);
    std::vector<std::vector<float>> parameters;
    std::vector<AdamWState> moments;
    for (const ShardLayout& layout : layouts) {
      parameters.emplace_back(layout.shard_elements(), 0.5F);
      moments.emplace_back(layout.shard_elements(), is_8bit);
    }
    std::vector<TrainedShard> shards;
    for (size_t i = 0; i < layouts.size(); ++i) shards.push_back({&layouts[i], parameters[i], &moments[i]});

    ShardChecksums checksums;
    EXPECT_EQ(checksums.find_changed(shards), "");  // none taken yet
    checksums.take(shards);
    EXPECT_EQ(checksums.find_changed(shards), "");
    for (size_t i = 0; i < shards.size(); ++i) {
      std::vector<std::span<std::byte>> arrays = {std::as_writable_bytes(shards[i].parameters)};
      for (const std::span<std::byte> array : moments[i].bytes()) arrays.push_back(array);
      for (size_t array = 0; array < arrays.size(); ++array) {
        std::byte& byte = arrays[array][arrays[array].size() * 2 / 3];
        byte ^= std::byte{16};
        const std::string what = array == 0 ? "parameters of " : "moments of ";
        EXPECT_EQ(checksums.find_changed(shards), what + layouts[i].unit().name);
        byte ^= std::byte{16};
      }
    }
    EXPECT_EQ(checksums.find_changed(shards), "");
    parameters[0][0] = 1;
    checksums.forget();
    EXPECT_EQ(checksums.find_changed(shards), "");
  }
}

}  // namespace
}  // namespace plumb
