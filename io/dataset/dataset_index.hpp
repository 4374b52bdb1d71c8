// index.json of a directory of token shards: its contents, its inputs, and how many source rows were kept, changed and
// dropped. It is written last, so a directory that has one is complete.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

inline constexpr int64_t kDatasetVersion = 2;

/// How many rows something happened to, and the places of the first of them: "train.csv:12".
struct RowTally {
  static constexpr size_t kMaxPlaces = 20;
  int64_t num_rows = 0;
  std::vector<std::string> first_places;

  void add(const std::string& place);
  void add(const RowTally& later);
  bool operator==(const RowTally&) const = default;
};

/// Counts of the rows of the source files. Tokens are those of kept rows, after truncation.
struct PrepareStatistics {
  static constexpr size_t kNumLengthBins = 40;

  int64_t num_rows_read = 0;
  int64_t num_rows_kept = 0;
  RowTally dropped_empty;
  RowTally dropped_nothing_to_learn;
  RowTally dropped_empty_completion;  // this and the next four: of pairs
  RowTally dropped_identical_pair;
  RowTally dropped_identical_once_cut;  // to max_length
  RowTally dropped_prompt_too_long;
  RowTally dropped_pair_too_long;
  RowTally duplicate_rows;  // kept, as the next ones; an earlier row has the same texts
  RowTally prompt_not_prefix;
  RowTally omitted_message;        // the template renders nothing of one of its messages
  RowTally spelled_control_token;  // the first of them after the place
  RowTally second_bos;
  RowTally blank_question;
  int64_t num_rows_truncated = 0;
  int64_t num_rows_ending_in_trained_eos = 0;  // of pairs: with both texts
  int64_t num_tokens = 0;
  int64_t num_trained_tokens = 0;  // those that a token before them predicts
  int64_t max_row_tokens = 0;      // of pairs: both texts together
  int64_t max_token_id = -1;
  std::vector<std::string> templates;  // names of those that rendered rows, sorted; "": the model's own
  std::array<int64_t, kNumLengthBins> length_histogram{};  // bin i: rows of [2^i, 2^(i + 1)) tokens

  void add_template(const std::string& name);
  /// Adds the counts of the rows that follow.
  void add(const PrepareStatistics& later);
  double share_ending_in_trained_eos() const;
  bool operator==(const PrepareStatistics&) const = default;
};

/// One tally and its names: in index.json, and after "row" or "rows" in a message.
struct RowReason {
  const char* key;
  RowTally PrepareStatistics::*tally;
  const char* text;
  bool is_optional = false;  // earlier versions wrote no count of it
};

std::span<const RowReason> drop_reasons();
/// These count rows that are kept.
std::span<const RowReason> row_remarks();

struct ShardEntry {
  std::string file;  // a name in the directory
  int64_t num_rows = 0;
  int64_t num_tokens = 0;
  int64_t num_bytes = 0;
  std::string sha256;
  bool operator==(const ShardEntry&) const = default;
};

struct DatasetIndex {
  std::string kind;          // kSftKind or kPairsKind
  std::string key;           // hash of made_from
  nlohmann::json made_from;  // hashes of files, tokenizer and options
  std::vector<ShardEntry> shards;
  PrepareStatistics statistics;
  std::vector<int64_t> rows_of_files;  // kept rows of each source file; empty where an earlier plumb did not count them

  int64_t num_rows() const { return statistics.num_rows_kept; }
  int64_t num_tokens() const { return statistics.num_tokens; }

  std::string to_text() const;
  /// Throws DataError, beginning with `where`, where to_text() cannot have written this.
  static DatasetIndex from_text(std::string_view text, const std::string& where);
  bool operator==(const DatasetIndex&) const = default;
};

nlohmann::json to_json(const PrepareStatistics& statistics);
PrepareStatistics statistics_from_json(const nlohmann::json& object, const std::string& where);
nlohmann::json to_json(const ShardEntry& shard);
ShardEntry shard_entry_from_json(const nlohmann::json& object, const std::string& where);

/// `directory`/index.json. Throws InputOutputError where there is none, DataError.
DatasetIndex read_dataset_index(const std::string& directory);
/// Writes it, complete or not at all.
void write_dataset_index(const std::string& directory, const DatasetIndex& index);

/// Throws DataError unless all shards are there, with their sizes.
void check_shard_sizes(const std::string& directory, const DatasetIndex& index);
/// Reads all of a shard. Throws DataError where its contents have changed.
void check_shard_hash(const std::string& directory, const ShardEntry& shard);

}  // namespace plumb
