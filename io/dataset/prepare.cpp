#include "io/dataset/prepare.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "io/dataset/prepare_key.hpp"
#include "io/dataset/prepare_report.hpp"
#include "io/dataset/prepare_shard.hpp"
#include "io/dataset/token_shard.hpp"
#include "io/file/atomic_directory.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/host_name.hpp"
#include "io/records/data_files.hpp"
#include "io/records/duplicate_rows.hpp"
#include "io/records/record_file.hpp"
#include "io/run/process_identity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/log.hpp"
#include "lib/text/row_format.hpp"

namespace plumb {
namespace {

namespace fs = std::filesystem;

/// Collective: rank 0 scans the files, everyone gets where their rows begin.
std::vector<SourceFile> index_files(const Communicator& comm, const std::vector<std::string>& paths) {
  if (comm.rank() == 0) {
    for (const auto& [path, earlier] : find_repeated_files(paths)) {
      log_warning("prepare: {} is given twice, the first time as {}: its rows count twice", path, earlier);
    }
  }
  std::vector<SourceFile> files;
  int64_t first_row = 0;
  for (const std::string& path : paths) {
    const std::string bytes = comm.from_rank0([&] { return index_records(path).to_bytes(); });
    files.push_back({path, first_row, RecordIndex::from_bytes(bytes)});
    first_row += files.back().index.num_records;
  }
  return files;
}

/// Errors of <filesystem> as those of this program.
template <class Body>
auto as_input_output(const Body& body) {
  try {
    return body();
  } catch (const fs::filesystem_error& error) {
    throw InputOutputError(error.what());
  }
}

/// Rank 0 only: the index of a complete dataset with this key; nothing if there is none.
std::optional<DatasetIndex> find_prepared(const std::string& target, const std::string& key) {
  if (!fs::exists(target)) return std::nullopt;
  try {
    DatasetIndex index = read_dataset_index(target);
    if (index.key != key) throw_error<DataError>("{}: expected key {}, got {}", target, key, index.key);
    check_shard_sizes(target, index);
    return index;
  } catch (const std::exception& error) {
    log_warning("{}; preparing the data again", error.what());
    return std::nullopt;
  }
}

/// Rank 0 only: removes what killed processes of this host left beside `target`, of any key.
void remove_stale(const std::string& target) {
  const std::string parent = parent_path(target);
  fs::create_directories(parent);
  std::vector<fs::path> stale;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent)) {
    const std::optional<TemporaryName> name = parse_temporary_name(entry.path().filename().string());
    if (!name || name->name.find_first_not_of("0123456789abcdef") != std::string::npos) continue;
    // what has the number of this process, which has written nothing yet, is of an earlier one
    const bool is_own = name->host == host_name() && name->process == ::getpid();
    if (is_own || life_of(name->host, name->process) == Life::kDead) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) fs::remove_all(path);
}

/// Collective: whether all shards still are what was written, by their hashes; ranks share the work.
bool is_intact(const Communicator& comm, const std::string& target, const DatasetIndex& index) {
  bool is_damaged = false;
  for (auto i = static_cast<size_t>(comm.rank()); i < index.shards.size(); i += static_cast<size_t>(comm.size())) {
    try {
      check_shard_hash(target, index.shards[i]);
    } catch (const std::exception& error) {
      log_warning("{}; preparing the data again", error.what());
      is_damaged = true;
    }
  }
  return !comm.any(is_damaged);
}

/// Collective: the text of the index of a complete and intact dataset with this key; "" if there is none.
std::string find_prepared_text(const Communicator& comm, const std::string& target, const std::string& key) {
  const std::string text = comm.from_rank0([&] {
    return as_input_output([&] {
      const std::optional<DatasetIndex> index = find_prepared(target, key);
      return index ? index->to_text() : "";
    });
  });
  if (text.empty()) return text;
  if (!is_intact(comm, target, DatasetIndex::from_text(text, target))) {
    comm.run_on_rank0([&] { remove_atomically(target); });
    return "";
  }
  if (comm.rank() == 0) log_info("prepare: {} holds these rows already", target);
  return text;
}

/// Rank 0 only.
RowTally tally_duplicates(const std::vector<SourceFile>& files,
                          const std::vector<std::vector<RowFingerprint>>& prints_of_parts) {
  std::vector<RowFingerprint> prints;
  for (const std::vector<RowFingerprint>& part : prints_of_parts) prints.insert(prints.end(), part.begin(), part.end());
  const std::vector<int64_t> rows = find_duplicates(std::move(prints));
  RowTally tally;
  tally.num_rows = std::ssize(rows);
  tally.first_places = places_of_rows(files, std::span(rows).first(std::min(rows.size(), RowTally::kMaxPlaces)));
  return tally;
}

/// Rank 0 only: names columns that begin in later rows, once each.
void log_new_columns(const std::map<std::string, std::string>& columns) {
  for (const auto& [column, place] : columns) {
    const std::string message =
        fmt::format("prepare: {}: column \"{}\", which the first row lacks, is not used", place, column);
    if (is_known_column(column)) {
      log_warning("{}; other trainers use columns of this name: give it a role with --columns role=name", message);
    } else {
      log_info("{}", message);
    }
  }
}

/// Collective: every rank's shard and the index into `temporary`.
void build(const Communicator& comm, const PrepareOptions& options, const nlohmann::json& inputs,
           const std::string& temporary) {
  const std::vector<SourceFile> files = index_files(comm, options.files);
  std::string part_text;
  std::vector<RowFingerprint> prints;
  comm.run_agreed([&] {
    ShardPart part = write_shard(files, options, temporary, comm.rank(), comm.size());
    const nlohmann::json object = {{"shard", to_json(part.entry)},
                                   {"statistics", to_json(part.statistics)},
                                   {"rows_of_files", part.rows_of_files},
                                   {"new_columns", part.new_columns},
                                   {"unread_options", part.unread_options}};
    part_text = object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    prints = std::move(part.prints);
  });
  const std::vector<std::string> part_texts = comm.gather_on_rank0(part_text);
  const std::vector<std::vector<RowFingerprint>> prints_of_parts =
      comm.gather_on_rank0(std::span<const RowFingerprint>(prints));
  comm.run_on_rank0([&] {
    DatasetIndex index{inputs.at("kind").get<std::string>(), key_of(inputs), inputs, {}, {}, {}};
    index.rows_of_files.resize(files.size());
    std::map<std::string, std::string> new_columns, unread_options;
    for (size_t rank = 0; rank < part_texts.size(); ++rank) {
      const std::string where = fmt::format("part of rank {}", rank);
      const nlohmann::json part = parse_json(part_texts[rank], where);
      index.shards.push_back(shard_entry_from_json(part.at("shard"), where));
      index.statistics.add(statistics_from_json(part.at("statistics"), where));
      const auto rows_of_files = part.at("rows_of_files").get<std::vector<int64_t>>();
      for (size_t i = 0; i < files.size(); ++i) index.rows_of_files[i] += rows_of_files[i];
      new_columns.merge(part.at("new_columns").get<std::map<std::string, std::string>>());
      unread_options.merge(part.at("unread_options").get<std::map<std::string, std::string>>());
    }
    for (const auto& [name, place] : unread_options)
      log_warning("prepare: {}: chat_template_kwargs: the chat template does not read {}", place, name);
    log_new_columns(new_columns);
    index.statistics.duplicate_rows = tally_duplicates(files, prints_of_parts);
    check_rows_kept(index.statistics);
    write_dataset_index(temporary, index);
  });
}

/// Collective: never kAny.
RowUse agreed_use(const Communicator& comm, const PrepareOptions& options) {
  if (options.use != RowUse::kAny) return options.use;
  return comm.from_rank0([&] {
    const std::string& path = options.files.front();
    return find_row_use({path, 0, index_records(path)}, options);
  });
}

void check_options(const PrepareOptions& options, const std::string& directory) {
  if (options.files.empty()) throw UsageError("data: expected at least one file, got none");
  if (directory.empty()) throw UsageError("data: expected a directory to prepare it into, got none");
  if (options.vocab_size < 0) throw_error<UsageError>("vocab_size: expected 0 or more, got {}", options.vocab_size);
}

}  // namespace

std::string dataset_directory(const std::string& directory, const DatasetIndex& index) {
  return join_path(directory, index.key);
}

DatasetIndex prepare_data(const Communicator& comm, const PrepareOptions& given, const std::string& directory) {
  comm.run_agreed([&] { check_options(given, directory); });
  PrepareOptions options = given;
  options.use = agreed_use(comm, given);
  const nlohmann::json inputs = describe_inputs(comm, options);
  const std::string key = key_of(inputs);
  const std::string target = join_path(directory, key);
  std::string text = find_prepared_text(comm, target, key);
  if (text.empty()) {
    std::optional<AtomicDirectory> made;  // on rank 0
    const std::string temporary = comm.from_rank0([&] {
      as_input_output([&] { remove_stale(target); });
      made.emplace(target, ExistingDirectory::kReplaceAnything);
      return made->temporary_path();
    });
    build(comm, options, inputs, temporary);
    text = comm.from_rank0([&] {
      const bool was_other_faster = as_input_output([&] { return find_prepared(target, key).has_value(); });
      if (!was_other_faster) made->publish();
      return read_dataset_index(target).to_text();
    });
  }
  DatasetIndex index = DatasetIndex::from_text(text, join_path(target, "index.json"));
  comm.run_agreed([&] {
    if (options.vocab_size == 0 || index.statistics.max_token_id < options.vocab_size) return;
    throw_error<DataError>("{}: expected token ids below {}, the rows of the embedding, got {}", target,
                           options.vocab_size, index.statistics.max_token_id);
  });
  if (comm.rank() == 0) report_rows(index);
  return index;
}

}  // namespace plumb
