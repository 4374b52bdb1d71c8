// Tokenized rows in one HDF5 file, documents concatenated: `tokens` int32 (fill -1), `loss_mask` uint8, `offsets`
// int64 [documents + 1] and `row_id` int64, the row's number in all source files one after another. A row of kind sft
// is one document; of kind pairs two, the chosen and the rejected text, with their `prompt_length` int64 and, where the
// data has one, a `margin` float64. One rank writes a shard, in memory that does not grow with it; any rank reads any
// rows of it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/atomic_hdf5_file.hpp"

namespace plumb {

inline constexpr int64_t kTokenShardVersion = 1;
inline constexpr std::string_view kSftKind = "sft";

inline constexpr std::string_view kPairsKind = "pairs";

/// The kind of rows in a shard, the same in all shards of a dataset.
struct ShardFormat {
  std::string kind{kSftKind};
  bool has_margins = false;  // of pairs

  int64_t documents_per_row() const { return kind == kPairsKind ? 2 : 1; }
  bool operator==(const ShardFormat&) const = default;
};

/// Rows, concatenated. Documents 2i and 2i + 1 of pairs are the chosen and the rejected text of row i.
struct TokenRows {
  int64_t documents_per_row = 1;
  std::vector<int32_t> tokens;
  std::vector<uint8_t> loss_mask;       // one per token, 1: trained; for pairs all tokens after the prompt
  std::vector<int64_t> offsets{0};      // first token of each document, then the number of tokens
  std::vector<int64_t> row_ids;         // of each row
  std::vector<int64_t> prompt_lengths;  // of each pair: tokens that both texts begin with
  std::vector<double> margins;          // of each pair; empty where the data has none

  int64_t num_rows() const { return static_cast<int64_t>(row_ids.size()); }
  int64_t num_documents() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  void add(std::span<const int32_t> row_tokens, std::span<const uint8_t> row_mask, int64_t row_id);
  /// Both texts begin with the prompt and continue after it. All pairs have a margin, or none.
  void add_pair(std::span<const int32_t> chosen, std::span<const int32_t> rejected, int64_t prompt_length,
                std::optional<double> margin, int64_t row_id);
  /// Appends rows of the same kind.
  void append(const TokenRows& later);
  void clear() { *this = TokenRows(); }
  bool operator==(const TokenRows&) const = default;
};

/// Writes under a temporary name beside `path`; without finish() nothing remains.
class TokenShardWriter {
 public:
  /// Throws InputOutputError.
  explicit TokenShardWriter(const std::string& path, const ShardFormat& format = {});

  /// A row has tokens, and `row_id` ascends from row to row. Throws InputOutputError.
  void append(std::span<const int32_t> tokens, std::span<const uint8_t> loss_mask, int64_t row_id);
  /// As TokenRows::add_pair(), into a shard of pairs; a margin is there if the format has them.
  void append_pair(std::span<const int32_t> chosen, std::span<const int32_t> rejected, int64_t prompt_length,
                   std::optional<double> margin, int64_t row_id);

  /// Publishes the file; without it nothing remains. Throws InputOutputError.
  void finish();

  int64_t num_rows() const { return num_rows_; }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  void count_row(int64_t row_id);
  void flush();

  ShardFormat format_;
  AtomicHdf5File file_;
  Hdf5Dataset tokens_;
  Hdf5Dataset loss_mask_;
  Hdf5Dataset offsets_;
  Hdf5Dataset row_id_;
  std::optional<Hdf5Dataset> prompt_length_;
  std::optional<Hdf5Dataset> margin_;
  TokenRows pending_;
  int64_t num_rows_ = 0;
  int64_t num_tokens_ = 0;
  int64_t last_row_id_ = -1;
};

class TokenShardReader {
 public:
  /// Checks the format, and that the arrays belong together. Token ids must be in [0, vocab_size);
  /// 0: any. Throws InputOutputError, DataError.
  explicit TokenShardReader(const std::string& path, int64_t vocab_size = 0);

  const ShardFormat& format() const { return format_; }
  int64_t num_rows() const { return row_id_.size(); }
  int64_t num_tokens() const { return tokens_.size(); }
  const std::string& path() const { return file_.path(); }

  /// Rows [begin, end). Throws DataError where a row is damaged.
  TokenRows read(int64_t begin, int64_t end) const;

  /// The number of tokens of each row of [begin, end), all its documents together. Throws DataError.
  std::vector<int64_t> read_row_tokens(int64_t begin, int64_t end) const;

  /// Reads every offset, in pieces. Throws DataError.
  void check_offsets() const;

 private:
  std::vector<int64_t> read_offsets(int64_t begin, int64_t end) const;
  void read_pairs(int64_t begin, TokenRows& rows) const;

  Hdf5File file_;
  ShardFormat format_;
  int64_t vocab_size_ = 0;
  Hdf5Dataset tokens_;
  Hdf5Dataset loss_mask_;
  Hdf5Dataset offsets_;
  Hdf5Dataset row_id_;
  std::optional<Hdf5Dataset> prompt_length_;
  std::optional<Hdf5Dataset> margin_;
};

}  // namespace plumb
