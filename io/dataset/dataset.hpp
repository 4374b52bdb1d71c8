// The rows of a prepared directory, by number. An example is what one kept row of the source files became, in their
// order, whichever shards they are in; a row is one example or, with packing, several concatenated. Reading takes
// the memory of a row and of a chunk per open shard, however large the corpus is.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "io/dataset/dataset_index.hpp"
#include "io/dataset/packing_file.hpp"
#include "io/dataset/token_shard.hpp"
#include "partition/communicator.hpp"

namespace plumb {

class Dataset {
 public:
  /// Opens every shard once and checks sizes and offsets. Token ids must be in [0, vocab_size); 0: any. Throws
  /// InputOutputError, DataError.
  explicit Dataset(const std::string& directory, int64_t vocab_size = 0);

  const std::string& directory() const { return directory_; }
  const DatasetIndex& index() const { return index_; }
  const ShardFormat& format() const { return format_; }
  int64_t num_examples() const { return first_example_.back(); }
  int64_t num_rows() const { return packing_ ? packing_->num_rows() : num_examples(); }

  /// From here on rows are packed, by the plan that ensure_packing() wrote. Throws InputOutputError, DataError.
  void use_packing(const PackingSetting& setting);
  /// From here on the two texts of a pair share no prompt, for models whose positions depend on the length of a text.
  void share_no_prompts() { shares_prompts_ = false; }
  /// The numbers of examples of consecutive groups of source files, of these sizes. Throws DataError where an earlier
  /// plumb prepared the data, which did not count them.
  std::vector<int64_t> examples_of_files(const std::vector<int64_t>& files_per_group) const;
  /// The numbers of rows of consecutive parts of the examples, of these sizes; packed rows must not cross their bounds.
  std::vector<int64_t> rows_of_parts(const std::vector<int64_t>& part_examples) const;

  /// The length of the longest row.
  int64_t max_row_tokens() const;
  /// Tokens divided by the capacity of all rows: that of packing, else the tokens of the longest row.
  double fill_share() const;

  /// Rows [begin, end) concatenated, an entry per example, from any thread. Throws DataError where the file is
  /// damaged.
  TokenRows rows(int64_t begin, int64_t end) const;
  TokenRows row(int64_t row) const { return rows(row, row + 1); }
  /// The numbers of the examples of a row, ascending.
  std::vector<int64_t> examples_of_row(int64_t row) const;
  /// As rows(), but examples, packed or not.
  TokenRows examples(int64_t begin, int64_t end) const;
  /// The number of tokens of each example of [begin, end), all its documents together.
  std::vector<int64_t> example_tokens(int64_t begin, int64_t end) const;

 private:
  struct OpenShard {
    size_t shard;
    TokenShardReader reader;
  };
  TokenShardReader open(size_t shard) const;
  const TokenShardReader& reader_of(size_t shard) const;
  /// Calls read(reader, begin, end) with the parts of examples [begin, end) that are in one shard, in order.
  template <class Read>
  void for_each_part(int64_t begin, int64_t end, Read read) const;

  bool shares_prompts_ = true;
  std::string directory_;
  int64_t vocab_size_;
  DatasetIndex index_;
  ShardFormat format_;
  std::vector<int64_t> first_example_;  // of each shard, then the number of examples
  std::optional<PackingFile> packing_;
  mutable std::mutex mutex_;
  mutable std::deque<OpenShard> open_shards_;  // last used first
};

/// Collective: a packing plan of this setting is beside the shards, written by rank 0 unless a valid one is there; a
/// damaged one is written again. Throws AgreedError.
void ensure_packing(const Communicator& comm, const Dataset& dataset, const PackingSetting& setting);

}  // namespace plumb
