#include "apps/preference/pairs.hpp"

#include <fmt/format.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/models/model_setup.hpp"
#include "apps/models/reward_model.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/preference/pair_files.hpp"
#include "io/dataset/content_hash.hpp"
#include "io/dataset/dataset.hpp"
#include "io/dataset/prepare.hpp"
#include "io/file/file.hpp"
#include "io/file/json_lines_writer.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr int64_t kRowsPerMicroBatch = 4;  // not an option: rewards must not depend on options

/// The rewards of the scored rows, in the order of the files.
class ScoredRows {
 public:
  ScoredRows(const Dataset& dataset, const std::vector<double>& rewards) : dataset_(dataset), rewards_(rewards) {}

  /// Rewards of chosen and rejected; none for a row that preparation dropped. Rows must be requested in ascending
  /// order.
  std::optional<std::array<double, 2>> find(int64_t source_row) {
    if (next_row_ < 0 && next_ < dataset_.num_examples())
      next_row_ = dataset_.examples(next_, next_ + 1).row_ids.front();
    if (next_row_ != source_row) return std::nullopt;
    const int64_t first = 2 * next_++;
    next_row_ = -1;
    return std::array{rewards_[first], rewards_[first + 1]};
  }

 private:
  const Dataset& dataset_;
  const std::vector<double>& rewards_;
  int64_t next_ = 0;
  int64_t next_row_ = -1;  // source row of example next_; -1: not read yet
};

struct FilterCounts {
  int64_t kept = 0, dropped = 0, flipped = 0, unscored = 0;

  FilterCounts& operator+=(const FilterCounts& more) {
    kept += more.kept, dropped += more.dropped, flipped += more.flipped, unscored += more.unscored;
    return *this;
  }
};

/// Rank 0 only: writes the rows of one source file that remain to `path`; no file if none remains. first_row: number of
/// the file's first row among the rows of all files.
FilterCounts write_filtered(const DpoStageOptions& dpo, const std::string& columns, RecordReader& reader,
                            int64_t first_row, const std::string& path, ScoredRows& scored) {
  FilterCounts counts;
  JsonLinesWriter writer(path);
  std::optional<RowFormat> format;
  for (auto record = reader.next(); record; record = reader.next()) {
    ordered_json& row = record->object;
    if (!format)
      format = find_row_format(row, parse_columns_option(columns), reader.where(*record), RowUse::kPreference);
    std::optional<std::array<double, 2>> rewards = scored.find(first_row + record->record);
    if (!rewards) {
      ++counts.unscored;
      continue;
    }
    if ((*rewards)[0] - (*rewards)[1] < dpo.pair_threshold) {
      if (dpo.pair_filter == PairFilter::kDrop) {
        ++counts.dropped;
        continue;
      }
      std::swap(row.at(format->columns.at("chosen")), row.at(format->columns.at("rejected")));
      std::swap((*rewards)[0], (*rewards)[1]);
      ++counts.flipped;
    }
    row["source_row"] = first_row + record->record;
    row["chosen_reward"] = (*rewards)[0];
    row["rejected_reward"] = (*rewards)[1];
    writer.append(row);
    ++counts.kept;
  }
  if (writer.num_lines() > 0) writer.finish();
  return counts;
}

/// Rank 0 only: writes the filtered pairs and returns the names of the files.
std::vector<std::string> filter_files(const PairSetting& o, const DataOptions& data, const std::string& prefix,
                                      ScoredRows scored, FilterCounts& counts) {
  std::vector<std::string> names;
  int64_t first_row = 0;
  for (size_t i = 0; i < data.data.size(); ++i) {
    const std::string name = data.data.size() == 1 ? prefix + ".jsonl" : fmt::format("{}-{}.jsonl", prefix, i);
    const std::string path = fmt::format("{}/{}", o.directory, name);
    const RecordIndex index = index_records(data.data[i]);
    RecordReader reader(data.data[i], index);
    const FilterCounts file_counts = write_filtered(o.dpo, data.columns, reader, first_row, path, scored);
    if (file_counts.kept > 0) names.push_back(name);
    counts += file_counts;
    first_row += index.num_records;
  }
  if (names.empty())
    throw_error<DataError>(
        "--pair_filter {}: expected pairs whose reward margin is at least {}, got none: {} dropped, {} without a "
        "reward; lower --pair_threshold",
        name_of(o.dpo.pair_filter), o.dpo.pair_threshold, counts.dropped, counts.unscored);
  return names;
}

/// Collective: scores all pairs, and writes those that the filter keeps.
PairFiles score_and_filter(const Communicator& comm, const PairSetting& o, const DataOptions& data,
                           const std::string& prefix) {
  RewardModel model(comm, o.dpo.reward_model, scalar_type(o.dtype));
  DataOptions scored = data;
  scored.max_length = model.config().max_position_embeddings;
  scored.eos_token.clear();  // the reward model has its own
  const DatasetIndex index = prepare_data(comm,
                                          prepare_options(scored, RowUse::kPreference, /*needs_whole_texts=*/true,
                                                          {o.dpo.reward_model}, model.config().vocab_size),
                                          o.directory);
  std::unique_ptr<Dataset> dataset;
  comm.run_agreed(
      [&] { dataset = std::make_unique<Dataset>(dataset_directory(o.directory, index), model.config().vocab_size); });
  const std::vector<double> rewards = model.score(*dataset, kRowsPerMicroBatch);
  PairFiles made;
  comm.run_on_rank0([&] {
    FilterCounts counts;
    if (o.dpo.pair_filter != PairFilter::kNone)
      made.names = filter_files(o, data, prefix, ScoredRows(*dataset, rewards), counts);
    made.counts = {{"scored", dataset->num_examples()},
                   {"kept", counts.kept},
                   {"dropped", counts.dropped},
                   {"flipped", counts.flipped},
                   {"unscored", index.statistics.num_rows_read - index.statistics.num_rows_kept},
                   {"rewards", describe_rewards(*dataset, rewards)}};
  });
  return made;
}

ordered_json accuracy_rows(const json& by_length) {
  ordered_json rows = ordered_json::array();
  for (const json& bucket : by_length)
    rows.push_back({bucket.at("tokens"), bucket.at("pairs").dump(),
                    fmt::format("{:.1f} %", 100 * bucket.at("accuracy").get<double>())});
  return rows;
}

void note(PairFilter filter, const json& counts, StageNotes& notes) {
  const json& rewards = counts.at("rewards");
  notes.add_fact("pairs scored", counts.at("scored"));
  notes.add_fact("share of pairs the reward model agrees with", rewards.at("accuracy"));
  notes.add_fact("mean reward margin of the pairs", rewards.at("margin"));
  if (const auto num_unscored = counts.at("unscored").get<int64_t>(); num_unscored > 0)
    notes.add_warning(fmt::format("{} pairs have no reward: empty, identical or too long for the reward model{}",
                                  num_unscored, filter == PairFilter::kNone ? "" : "; they are left out"));
  notes.add_table("Pairs the reward model agrees with, by length", {"tokens", "pairs", "share"},
                  accuracy_rows(rewards.at("accuracy_by_length")));
  if (filter == PairFilter::kNone) return;
  notes.add_fact("pairs kept", counts.at("kept"));
  notes.add_fact("pairs dropped", counts.at("dropped"));
  notes.add_fact("pairs flipped", counts.at("flipped"));
}

/// The data with filtered files in place of those that they were made of. A file of which no pair remains has none, and
/// the others have its number in their names.
DataOptions with_filtered_files(const PairSetting& o, const DataOptions& data, const std::vector<std::string>& names) {
  DataOptions filtered = data;
  filtered.data.clear();
  filtered.files_per_item.assign(data.files_per_item.size(), 0);
  for (const std::string& name : names) {
    filtered.data.push_back(join_path(o.directory, name));
    if (data.files_per_item.empty()) continue;
    int64_t file = data.data.size() == 1 ? 0 : std::stoll(name.substr(name.rfind('-') + 1));
    size_t item = 0;
    while (file >= data.files_per_item.at(item)) file -= data.files_per_item[item++];
    ++filtered.files_per_item[item];
  }
  return filtered;
}

/// Collective: scores the pairs of `data` and returns the data that remain after the filter.
DataOptions filter_pairs(const Communicator& comm, const PairSetting& o, const DataOptions& data, StageNotes& notes) {
  std::vector<std::string> tokenizer;
  comm.run_agreed([&] { tokenizer = tokenizer_files(o.dpo.reward_model); });
  const bool is_filtered = o.dpo.pair_filter != PairFilter::kNone;
  const json made_from = {{"version", 2},
                          {"files", describe_files(comm, data.data)},
                          {"reward_model", model_hash(comm, o.dpo.reward_model)},
                          {"tokenizer", describe_files(comm, tokenizer)},
                          {"columns", data.columns},
                          {"chat_template", data.chat_template},
                          {"parse_special_tokens", data.parse_special_tokens},
                          {"dtype", name_of(o.dtype)},
                          {"pair_filter", name_of(o.dpo.pair_filter)},
                          {"pair_threshold", is_filtered ? o.dpo.pair_threshold : 0}};
  const PairFiles made =
      make_pair_files_once(comm, o.directory, is_filtered ? "filtered" : "rewards", made_from,
                           [&](const std::string& prefix) { return score_and_filter(comm, o, data, prefix); });
  note(o.dpo.pair_filter, made.counts, notes);
  if (!is_filtered) return data;
  return with_filtered_files(o, data, made.names);
}

}  // namespace

DataOptions choose_pairs(const Communicator& comm, const PairSetting& o, StageNotes& notes) {
  DataOptions data = o.data;
  if (o.dpo.reward_model.empty()) return data;
  const bool is_sampled = o.dpo.pairs == PairSource::kSampled;
  if (is_sampled) data = sample_pairs(comm, o, notes);
  if (!is_sampled || o.dpo.pair_filter != PairFilter::kNone) data = filter_pairs(comm, o, data, notes);
  release_freed_memory();
  return data;
}

}  // namespace plumb
