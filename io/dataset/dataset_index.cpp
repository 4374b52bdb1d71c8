#include "io/dataset/dataset_index.hpp"

#include <algorithm>
#include <set>

#include "io/dataset/token_shard.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/sha256.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"

namespace plumb {
namespace {

constexpr const char* kIndexFile = "index.json";
constexpr int64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxShards = 1 << 20;
constexpr size_t kMaxQuotedBytes = 128;
constexpr auto kReplace = Json::error_handler_t::replace;

/// Far below where sums of counts could overflow.
constexpr int64_t kMaxCount = int64_t{1} << 60;

int64_t count_value(const Json& value, const char* key, const std::string& where, int64_t least = 0) {
  if (!value.is_number_integer()) {
    throw_error<DataError>("{}: {}: expected an integer, got {}", where, key, value.type_name());
  }
  const bool is_too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(kMaxCount);
  if (is_too_large || value.get<int64_t>() < least) {
    throw_error<DataError>("{}: {}: expected a count of at least {}, got {}", where, key, least, value.dump());
  }
  return value.get<int64_t>();
}

int64_t count_field(const Json& object, const char* key, const std::string& where, int64_t least = 0) {
  return count_value(field_or_null(object, key, where), key, where, least);
}

void require(bool holds, const std::string& where, std::string_view expected) {
  if (!holds) throw_error<DataError>("{}: expected {}, got another number", where, expected);
}

constexpr RowReason kDropReasons[] = {
    {"empty", &PrepareStatistics::dropped_empty, "without tokens"},
    {"nothing_to_learn", &PrepareStatistics::dropped_nothing_to_learn, "with nothing to learn"},
    {"empty_completion", &PrepareStatistics::dropped_empty_completion, "with an empty answer"},
    {"identical_pair", &PrepareStatistics::dropped_identical_pair, "with the same text twice"},
    {"identical_once_cut", &PrepareStatistics::dropped_identical_once_cut,
     "with the same text twice once cut to max_length", true},
    {"prompt_too_long", &PrepareStatistics::dropped_prompt_too_long, "with a prompt of max_length"},
    {"pair_too_long", &PrepareStatistics::dropped_pair_too_long, "longer than max_length"}};

constexpr RowReason kRowRemarks[] = {
    {"duplicate_rows", &PrepareStatistics::duplicate_rows, "with the same texts as an earlier one"},
    {"prompt_not_prefix", &PrepareStatistics::prompt_not_prefix,
     "with other tokens at the end of its prompt before the answer"},
    {"omitted_message", &PrepareStatistics::omitted_message, "with a message of which the template renders nothing",
     true},
    {"spelled_control_token", &PrepareStatistics::spelled_control_token,
     "with a control token spelled out, which stays text", true},
    {"second_bos", &PrepareStatistics::second_bos, "with two BOS tokens at its start", true},
    {"blank_question", &PrepareStatistics::blank_question, "with a blank question", true}};

Json to_json(const RowTally& tally) { return {{"rows", tally.num_rows}, {"first", tally.first_places}}; }

RowTally tally_from_json(const Json& parent, const RowReason& reason, const std::string& where) {
  const char* key = reason.key;
  const Json& object = field_or_null(parent, key, where);
  if (reason.is_optional && object.is_null()) return {};
  const std::string here = fmt::format("{}: {}", where, key);
  RowTally tally;
  tally.num_rows = count_field(object, "rows", here);
  for (const Json& place : array_field(object, "first", here)) {
    if (!place.is_string()) throw_error<DataError>("{}: expected places as text, got {}", here, place.type_name());
    if (tally.first_places.size() < RowTally::kMaxPlaces) tally.first_places.push_back(place.get<std::string>());
  }
  return tally;
}

/// Names without directories and control characters.
bool is_plain_name(std::string_view name) {
  constexpr size_t kMaxNameBytes = 128;
  const bool is_plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
  return is_plain && !name.empty() && name.size() <= kMaxNameBytes && name.front() != '.';
}

std::vector<int64_t> rows_of_files_from_json(const Json& parent, int64_t num_rows, const std::string& where) {
  std::vector<int64_t> rows;
  int64_t num_left = num_rows;
  for (const Json& value : array_field(parent, "rows_of_files", where)) {
    rows.push_back(count_value(value, "rows_of_files", where));
    require(rows.back() <= num_left, where, "rows of files that add up to those kept");
    num_left -= rows.back();
  }
  require(num_left == 0, where, "rows of files that add up to those kept");
  return rows;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::span<const RowReason> drop_reasons() { return kDropReasons; }
std::span<const RowReason> row_remarks() { return kRowRemarks; }

void RowTally::add(const std::string& place) {
  ++num_rows;
  if (first_places.size() < kMaxPlaces) first_places.push_back(place);
}

void RowTally::add(const RowTally& later) {
  num_rows += later.num_rows;
  for (const std::string& place : later.first_places) {
    if (first_places.size() < kMaxPlaces) first_places.push_back(place);
  }
}

void PrepareStatistics::add(const PrepareStatistics& later) {
  num_rows_read += later.num_rows_read;
  num_rows_kept += later.num_rows_kept;
  for (const RowReason& reason : kDropReasons) (this->*reason.tally).add(later.*reason.tally);
  for (const RowReason& remark : kRowRemarks) (this->*remark.tally).add(later.*remark.tally);
  num_rows_truncated += later.num_rows_truncated;
  num_rows_ending_in_trained_eos += later.num_rows_ending_in_trained_eos;
  num_tokens += later.num_tokens;
  num_trained_tokens += later.num_trained_tokens;
  max_row_tokens = std::max(max_row_tokens, later.max_row_tokens);
  max_token_id = std::max(max_token_id, later.max_token_id);
  for (const std::string& name : later.templates) add_template(name);
  for (size_t i = 0; i < kNumLengthBins; ++i) length_histogram[i] += later.length_histogram[i];
}

void PrepareStatistics::add_template(const std::string& name) {
  const auto at = std::lower_bound(templates.begin(), templates.end(), name);
  if (at == templates.end() || *at != name) templates.insert(at, name);
}

double PrepareStatistics::share_ending_in_trained_eos() const {
  if (num_rows_kept == 0) return 0;
  return static_cast<double>(num_rows_ending_in_trained_eos) / static_cast<double>(num_rows_kept);
}

Json to_json(const PrepareStatistics& statistics) {
  Json dropped = Json::object();
  for (const RowReason& reason : kDropReasons) dropped[reason.key] = to_json(statistics.*reason.tally);
  Json object = {{"rows_read", statistics.num_rows_read},
                 {"rows_kept", statistics.num_rows_kept},
                 {"dropped", dropped},
                 {"rows_truncated", statistics.num_rows_truncated},
                 {"rows_ending_in_trained_eos", statistics.num_rows_ending_in_trained_eos},
                 {"share_ending_in_trained_eos", statistics.share_ending_in_trained_eos()},
                 {"tokens", statistics.num_tokens},
                 {"trained_tokens", statistics.num_trained_tokens},
                 {"max_row_tokens", statistics.max_row_tokens},
                 {"max_token_id", statistics.max_token_id},
                 {"templates", statistics.templates},
                 {"length_histogram_by_power_of_two", statistics.length_histogram}};
  for (const RowReason& remark : kRowRemarks) object[remark.key] = to_json(statistics.*remark.tally);
  return object;
}

PrepareStatistics statistics_from_json(const Json& object, const std::string& where) {
  PrepareStatistics statistics;
  statistics.num_rows_read = count_field(object, "rows_read", where);
  statistics.num_rows_kept = count_field(object, "rows_kept", where);
  const Json& dropped = field_or_null(object, "dropped", where);
  for (const RowReason& reason : kDropReasons) {
    statistics.*reason.tally = tally_from_json(dropped, reason, where);
  }
  for (const RowReason& remark : kRowRemarks) statistics.*remark.tally = tally_from_json(object, remark, where);
  statistics.num_rows_truncated = count_field(object, "rows_truncated", where);
  statistics.num_rows_ending_in_trained_eos = count_field(object, "rows_ending_in_trained_eos", where);
  statistics.num_tokens = count_field(object, "tokens", where);
  statistics.num_trained_tokens = count_field(object, "trained_tokens", where);
  statistics.max_row_tokens = count_field(object, "max_row_tokens", where);
  statistics.max_token_id = count_field(object, "max_token_id", where, -1);
  if (!field_or_null(object, "templates", where).is_null()) {
    for (const Json& name : array_field(object, "templates", where)) {
      require(name.is_string(), where, "names of templates");
      statistics.add_template(name.get<std::string>());
    }
  }
  const Json& histogram = array_field(object, "length_histogram_by_power_of_two", where);
  require(histogram.size() == PrepareStatistics::kNumLengthBins, where, "40 bins of lengths");
  for (size_t i = 0; i < histogram.size(); ++i) {
    statistics.length_histogram[i] = count_value(histogram[i], "length_histogram_by_power_of_two", where);
  }
  return statistics;
}

Json to_json(const ShardEntry& shard) {
  return {{"file", shard.file},
          {"rows", shard.num_rows},
          {"tokens", shard.num_tokens},
          {"bytes", shard.num_bytes},
          {"sha256", shard.sha256}};
}

ShardEntry shard_entry_from_json(const Json& object, const std::string& where) {
  ShardEntry shard;
  shard.file = string_field(object, "file", where);
  if (!is_plain_name(shard.file)) {
    throw_error<DataError>("{}: expected the name of a file beside it, of letters, digits and ._-, got {}", where,
                           Json(shard.file.substr(0, kMaxQuotedBytes)).dump(-1, ' ', true, kReplace));
  }
  shard.num_rows = count_field(object, "rows", where);
  shard.num_tokens = count_field(object, "tokens", where);
  shard.num_bytes = count_field(object, "bytes", where);
  shard.sha256 = string_field(object, "sha256", where);
  if (!is_sha256(shard.sha256)) {
    throw_error<DataError>("{}: {}: expected a sha256 of 64 digits, got '{}'", where, shard.file,
                           shard.sha256.substr(0, kMaxQuotedBytes));
  }
  return shard;
}

std::string DatasetIndex::to_text() const {
  // ordered, so that readers find the totals before the list of shards
  nlohmann::ordered_json object = {{"format_version", kDatasetVersion}, {"kind", kind}, {"key", key}};
  object["made_from"] = made_from;
  object["statistics"] = to_json(statistics);
  if (!rows_of_files.empty()) object["rows_of_files"] = rows_of_files;
  object["shards"] = nlohmann::ordered_json::array();
  for (const ShardEntry& shard : shards) object["shards"].emplace_back(to_json(shard));
  // paths need not be UTF-8
  return object.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

DatasetIndex DatasetIndex::from_text(std::string_view text, const std::string& where) {
  const Json object = parse_json(text, where);
  const int64_t version = count_field(object, "format_version", where);
  if (version != kDatasetVersion) {
    throw_error<DataError>("{}: expected format version {}, got {}; prepare the data again with this plumb", where,
                           kDatasetVersion, version);
  }
  DatasetIndex index;
  index.kind = string_field(object, "kind", where);
  if (index.kind != kSftKind && index.kind != kPairsKind) {
    throw_error<DataError>("{}: expected kind {} or {}, got '{}'", where, kSftKind, kPairsKind,
                           index.kind.substr(0, kMaxQuotedBytes));
  }
  index.key = string_field(object, "key", where);
  index.made_from = field_or_null(object, "made_from", where);
  index.statistics = statistics_from_json(field_or_null(object, "statistics", where), where + ": statistics");
  if (!field_or_null(object, "rows_of_files", where).is_null()) {
    index.rows_of_files = rows_of_files_from_json(object, index.num_rows(), where);
  }
  const Json& shards = array_field(object, "shards", where);
  if (shards.empty() || shards.size() > kMaxShards) {
    throw_error<DataError>("{}: expected 1 to {} shards, got {}", where, kMaxShards, shards.size());
  }
  int64_t num_rows = 0, num_tokens = 0;
  std::set<std::string> names;
  for (const Json& shard : shards) {
    index.shards.push_back(shard_entry_from_json(shard, where + ": shards"));
    const std::string& name = index.shards.back().file;
    if (!names.insert(name).second) throw_error<DataError>("{}: expected each shard once, got {} twice", where, name);
    num_rows += index.shards.back().num_rows;
    num_tokens += index.shards.back().num_tokens;
    require(num_rows <= index.num_rows() && num_tokens <= index.num_tokens(), where, "totals of all shards");
  }
  require(num_rows == index.num_rows() && num_tokens == index.num_tokens(), where, "totals of all shards");
  return index;
}

DatasetIndex read_dataset_index(const std::string& directory) {
  const std::string path = join_path(directory, kIndexFile);
  return DatasetIndex::from_text(read_text_file(path, kMaxIndexBytes), path);
}

void write_dataset_index(const std::string& directory, const DatasetIndex& index) {
  write_file_atomically(join_path(directory, kIndexFile), index.to_text());
}

void check_shard_sizes(const std::string& directory, const DatasetIndex& index) {
  for (const ShardEntry& shard : index.shards) {
    const std::string path = join_path(directory, shard.file);
    if (!is_regular_file(path)) throw_error<DataError>("{}: expected a shard, got no such file", path);
    const int64_t num_bytes = File::open_for_reading(path).size_bytes();
    if (num_bytes != shard.num_bytes) {
      throw_error<DataError>("{}: expected {} bytes as in {}, got {}; is it complete?", path, shard.num_bytes,
                             kIndexFile, num_bytes);
    }
  }
}

void check_shard_hash(const std::string& directory, const ShardEntry& shard) {
  const std::string path = join_path(directory, shard.file);
  const std::string sha256 = sha256_of_file(path);
  if (sha256 != shard.sha256) {
    throw_error<DataError>("{}: expected sha256 {}, got {}; the file was changed since it was written", path,
                           shard.sha256, sha256);
  }
}

}  // namespace plumb
