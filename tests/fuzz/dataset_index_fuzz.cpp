// index.json of prepared data: accepted input round-trips, its totals are those of its shards, and names of shards stay
// within the directory.
#include <nlohmann/json.hpp>

#include "io/dataset/dataset_index.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

bool accepts(std::string_view input) {
  DatasetIndex index;
  if (!is_accepted([&] { index = DatasetIndex::from_text(input, "index.json"); })) return false;
  int64_t num_rows = 0, num_tokens = 0;
  for (const ShardEntry& shard : index.shards) {
    require(shard.file.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                    std::string::npos &&
                !shard.file.starts_with('.'),
            "a shard is in the directory");
    num_rows += shard.num_rows;
    num_tokens += shard.num_tokens;
  }
  require(num_rows == index.num_rows() && num_tokens == index.num_tokens(), "totals are those of the shards");
  require(DatasetIndex::from_text(index.to_text(), "again") == index, "an index reads back");
  return true;
}

}  // namespace plumb::fuzz
