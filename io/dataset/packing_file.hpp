// A packing plan beside the shards it was made for, packing-<capacity>.h5: `offsets` int64 [rows + 1] and `examples`
// int64, as in PackingPlan. Made once for a dataset, a capacity and parts of the examples that share no rows (whose
// hash is then in the name); readers hold no more than a row of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/dataset/dataset_index.hpp"
#include "io/file/hdf5_file.hpp"

namespace plumb {

/// The inputs of a plan besides the dataset.
struct PackingSetting {
  int64_t capacity_tokens = 0;
  std::vector<int64_t> part_sizes;  // of parts of the examples that share no row; empty: one part

  // NOLINTNEXTLINE(google-explicit-constructor): a capacity alone is a setting
  PackingSetting(int64_t capacity, std::vector<int64_t> parts = {})
      : capacity_tokens(capacity), part_sizes(std::move(parts)) {}
};

class PackingFile {
 public:
  /// The plan of this setting in the directory of the shards of `index`. Reads all of it once, in pieces, and checks
  /// that it has every example once. Throws InputOutputError where there is none, DataError.
  PackingFile(const std::string& directory, const DatasetIndex& index, const PackingSetting& setting);

  int64_t num_rows() const { return offsets_.size() - 1; }
  int64_t capacity_tokens() const { return capacity_tokens_; }
  int64_t max_row_tokens() const { return max_row_tokens_; }

  /// The examples of a row, ascending, from any thread. Throws DataError where the file is damaged.
  std::vector<int64_t> examples_of_row(int64_t row) const;

 private:
  std::vector<int64_t> read_examples(const std::vector<int64_t>& offsets, int64_t first_row) const;
  std::vector<int64_t> read_offsets(int64_t begin, int64_t end) const;
  void check_all() const;

  Hdf5File file_;
  int64_t capacity_tokens_ = 0;
  int64_t max_row_tokens_ = 0;
  int64_t num_examples_ = 0;
  Hdf5Dataset offsets_;
  Hdf5Dataset examples_;
};

/// Whether there is a valid plan; logs why a damaged one is none.
bool has_packing(const std::string& directory, const DatasetIndex& index, const PackingSetting& setting);

/// Writes the plan for examples of these lengths, complete or not at all, in memory of a few words per example. Throws
/// InputOutputError.
void write_packing(const std::string& directory, const DatasetIndex& index, const PackingSetting& setting,
                   std::span<const int64_t> example_tokens);

}  // namespace plumb
