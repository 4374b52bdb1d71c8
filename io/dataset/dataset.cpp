#include "io/dataset/dataset.hpp"

#include <algorithm>
#include <numeric>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

/// An open file costs about a megabyte in the HDF5 library.
constexpr size_t kMaxOpenShards = 32;
constexpr int64_t kExamplesPerPiece = 64 * 1024;

}  // namespace

Dataset::Dataset(const std::string& directory, int64_t vocab_size)
    : directory_(directory), vocab_size_(vocab_size), index_(read_dataset_index(directory)), first_example_{0} {
  check_shard_sizes(directory, index_);
  if (vocab_size > 0 && index_.statistics.max_token_id >= vocab_size) {
    throw_error<DataError>("{}: expected token ids below {}, the rows of the embedding, got {}; prepare the data again",
                           directory, vocab_size, index_.statistics.max_token_id);
  }
  if (index_.num_rows() == 0) throw_error<DataError>("{}: expected rows, got a dataset without any", directory);
  for (size_t shard = 0; shard < index_.shards.size(); ++shard) {
    const ShardEntry& entry = index_.shards[shard];
    const TokenShardReader reader = open(shard);
    if (reader.num_rows() != entry.num_rows || reader.num_tokens() != entry.num_tokens) {
      throw_error<DataError>("{}: expected {} rows of {} tokens as in index.json, got {} of {}", reader.path(),
                             entry.num_rows, entry.num_tokens, reader.num_rows(), reader.num_tokens());
    }
    if (shard == 0) format_ = reader.format();
    if (reader.format() != format_ || format_.kind != index_.kind) {
      throw_error<DataError>("{}: expected rows of kind {} like those of {}, got {}, {} margins", reader.path(),
                             index_.kind, index_.shards.front().file, reader.format().kind,
                             reader.format().has_margins ? "with" : "without");
    }
    reader.check_offsets();
    first_example_.push_back(first_example_.back() + entry.num_rows);
  }
}

TokenShardReader Dataset::open(size_t shard) const {
  return TokenShardReader(join_path(directory_, index_.shards[shard].file), vocab_size_);
}

const TokenShardReader& Dataset::reader_of(size_t shard) const {
  const auto found = std::find_if(open_shards_.begin(), open_shards_.end(),
                                  [&](const OpenShard& candidate) { return candidate.shard == shard; });
  if (found == open_shards_.end()) {
    if (open_shards_.size() == kMaxOpenShards) open_shards_.pop_back();
    open_shards_.push_front({shard, open(shard)});
  } else {
    std::rotate(open_shards_.begin(), found, found + 1);
  }
  return open_shards_.front().reader;
}

void Dataset::use_packing(const PackingSetting& setting) { packing_.emplace(directory_, index_, setting); }

std::vector<int64_t> Dataset::examples_of_files(const std::vector<int64_t>& files_per_group) const {
  const int64_t num_files = std::accumulate(files_per_group.begin(), files_per_group.end(), int64_t{0});
  std::vector<int64_t> rows_of_files = index_.rows_of_files;
  if (rows_of_files.empty() && num_files == 1) rows_of_files = {index_.num_rows()};
  if (std::ssize(rows_of_files) != num_files) {
    throw_error<DataError>(
        "{}: expected the numbers of rows of {} files, got those of {}; remove the directory, so that "
        "the data are prepared again",
        directory_, num_files, rows_of_files.size());
  }
  std::vector<int64_t> sums;
  auto next = rows_of_files.begin();
  for (const int64_t size : files_per_group) {
    sums.push_back(std::accumulate(next, next + size, int64_t{0}));
    next += size;
  }
  return sums;
}

std::vector<int64_t> Dataset::rows_of_parts(const std::vector<int64_t>& part_examples) const {
  std::vector<int64_t> sizes;
  int64_t end_example = 0, begin_row = 0;
  for (const int64_t size : part_examples) {
    end_example += size;
    int64_t low = begin_row, high = num_rows();  // the first row that begins at end_example or later
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (examples_of_row(middle).front() < end_example) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    sizes.push_back(low - begin_row);
    begin_row = low;
  }
  return sizes;
}

int64_t Dataset::max_row_tokens() const {
  return packing_ ? packing_->max_row_tokens() : index_.statistics.max_row_tokens;
}

double Dataset::fill_share() const {
  const int64_t row_tokens = packing_ ? packing_->capacity_tokens() : max_row_tokens();
  return static_cast<double>(index_.num_tokens()) / (static_cast<double>(num_rows()) * static_cast<double>(row_tokens));
}

template <class Read>
void Dataset::for_each_part(int64_t begin, int64_t end, Read read) const {
  check(begin >= 0 && begin <= end && end <= num_examples(), "examples to read lie within the dataset");
  const std::lock_guard lock(mutex_);
  while (begin < end) {
    const auto after = std::upper_bound(first_example_.begin(), first_example_.end(), begin);
    const auto shard = static_cast<size_t>(after - first_example_.begin()) - 1;
    const int64_t shard_end = std::min(end, *after);
    read(reader_of(shard), begin - first_example_[shard], shard_end - first_example_[shard]);
    begin = shard_end;
  }
}

TokenRows Dataset::examples(int64_t begin, int64_t end) const {
  TokenRows all;
  for_each_part(begin, end, [&](const TokenShardReader& shard, int64_t first, int64_t last) {
    all.append(shard.read(first, last));
  });
  if (!shares_prompts_) std::fill(all.prompt_lengths.begin(), all.prompt_lengths.end(), 0);
  return all;
}

std::vector<int64_t> Dataset::example_tokens(int64_t begin, int64_t end) const {
  std::vector<int64_t> all;
  for_each_part(begin, end, [&](const TokenShardReader& shard, int64_t first, int64_t last) {
    for (; first < last; first += kExamplesPerPiece) {
      const auto part = shard.read_row_tokens(first, std::min(first + kExamplesPerPiece, last));
      all.insert(all.end(), part.begin(), part.end());
    }
  });
  return all;
}

TokenRows Dataset::rows(int64_t begin, int64_t end) const {
  check(begin >= 0 && begin <= end && end <= num_rows(), "rows to read lie within the dataset");
  if (!packing_) return examples(begin, end);
  TokenRows all;
  for (int64_t row = begin; row < end; ++row) {
    for (const int64_t example : packing_->examples_of_row(row)) all.append(examples(example, example + 1));
  }
  return all;
}

std::vector<int64_t> Dataset::examples_of_row(int64_t row) const {
  check(row >= 0 && row < num_rows(), "a row lies within the dataset");
  return packing_ ? packing_->examples_of_row(row) : std::vector<int64_t>{row};
}

void ensure_packing(const Communicator& comm, const Dataset& dataset, const PackingSetting& setting) {
  comm.run_on_rank0([&] {
    if (setting.capacity_tokens <= 0) {
      throw_error<UsageError>("packing: expected room for a token, got {}", setting.capacity_tokens);
    }
    if (has_packing(dataset.directory(), dataset.index(), setting)) return;
    write_packing(dataset.directory(), dataset.index(), setting, dataset.example_tokens(0, dataset.num_examples()));
  });
}

}  // namespace plumb
