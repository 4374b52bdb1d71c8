#include "io/dataset/prepare_shard.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <deque>
#include <functional>
#include <optional>

#include "io/dataset/token_shard.hpp"
#include "io/file/file.hpp"
#include "io/file/sha256.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "lib/base/redact.hpp"
#include "lib/text/example.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row_cells.hpp"
#include "lib/text/row_format.hpp"
#include "lib/text/turns.hpp"

namespace plumb {
namespace {

/// Logs every ten seconds how many rows of this rank are done.
class Progress {
 public:
  explicit Progress(int64_t num_rows) : num_rows_(num_rows) {}
  void report(int64_t num_done) {
    const double now = steady_seconds();
    if (now < next_report_seconds_) return;
    next_report_seconds_ = now + kReportSeconds;
    log_info("prepare: {} of {} rows of this rank", num_done, num_rows_);
  }

 private:
  static constexpr double kReportSeconds = 10;

  int64_t num_rows_;
  double next_report_seconds_ = steady_seconds() + kReportSeconds;
};

RowFormat format_of_file(const SourceFile& file, const PrepareOptions& options) {
  RecordReader reader(file.path, file.index);
  const std::optional<Record> first = reader.next();
  check(first.has_value(), "an indexed file has rows");
  return find_row_format(first->object, options.columns, reader.where(*first), options.use);
}

/// How the rows of one shape become tokens.
struct FileRenderer {
  RowFormat format;
  std::optional<RowTemplate> row_template;
  std::string template_name;

  FileRenderer(RowFormat row_format, const Tokenizer& tokenizer, const PrepareOptions& options)
      : format(std::move(row_format)),
        row_template(choose_template(format, tokenizer, options.template_name, options.template_variables)),
        template_name(name_of_template(format, tokenizer, options.template_name)) {}

  const RowTemplate* template_or_null() const { return row_template ? &*row_template : nullptr; }
  bool has_margins() const { return format.shape == RowShape::kPreference && format.columns.contains("margin"); }
};

std::vector<FileRenderer> make_renderers(const std::vector<SourceFile>& files, const Tokenizer& tokenizer,
                                         const PrepareOptions& options) {
  std::vector<FileRenderer> renderers;
  for (const SourceFile& file : files) {
    renderers.emplace_back(format_of_file(file, options), tokenizer, options);
    if (renderers.back().has_margins() == renderers.front().has_margins()) continue;
    throw_error<DataError>("{}: expected {} column for the margin, as in {}, got {}; all files have it or none",
                           file.path, renderers.front().has_margins() ? "a" : "no", files.front().path,
                           renderers.back().has_margins() ? "one" : "none");
  }
  return renderers;
}

std::string used_columns(const RowFormat& format) {
  std::vector<std::string> columns;
  for (const auto& [role, column] : format.columns) columns.push_back(column);
  return fmt::format("{}", fmt::join(columns, ", "));
}

void log_format(const SourceFile& file, const RowFormat& format) {
  log_info("prepare: {}: {}, {} rows of {}{}{}", file.path, describe(file.index.format), file.index.num_records,
           name_of(format.shape),
           format.unused_columns.empty() ? "" : "; unused columns: ", fmt::join(format.unused_columns, ", "));
  if (format.dropped_columns.empty()) return;
  log_warning(
      "prepare: {}: other trainers use columns of these names, but rows of {} are made of {} alone; what is in \"{}\" "
      "is not trained on; give it a role with --columns role=name, or leave it out",
      file.path, name_of(format.shape), used_columns(format), fmt::join(format.dropped_columns, "\", \""));
}

void log_unread_variables(const std::vector<FileRenderer>& renderers) {
  for (const FileRenderer& renderer : renderers) {
    const std::vector<std::string> names =
        renderer.row_template ? renderer.row_template->unread_variables() : std::vector<std::string>();
    if (names.empty()) continue;
    log_warning("prepare: --chat_template_kwargs: the chat template does not read {}", fmt::join(names, ", "));
    return;
  }
}

/// Writes the rows of one part into its shard and counts them.
class ShardFiller {
 public:
  ShardFiller(const Tokenizer& tokenizer, const PrepareOptions& options, TokenShardWriter& shard, ShardPart& part)
      : tokenizer_(tokenizer), options_(options), shard_(shard), part_(part) {}

  /// `where` and `place` name the row for an error and for a tally. `usual` is how the first row of the file is
  /// rendered.
  void add(const nlohmann::ordered_json& object, const FileRenderer& usual, int64_t row, const std::string& where,
           const std::string& place) {
    ++part_.statistics.num_rows_read;
    const FileRenderer& renderer = renderer_of(object, usual, where);
    note_new_columns(object, renderer.format, usual.format, place);
    note_unread_options(object, renderer, where, place);
    if (options_.use == RowUse::kPreference) {
      add_pair(object, renderer, row, where, place);
    } else {
      add_sft(object, renderer, row, where, place);
    }
  }

 private:
  /// A row without a cell that the shape of the file needs may have those of another shape.
  const FileRenderer& renderer_of(const nlohmann::ordered_json& object, const FileRenderer& usual,
                                  const std::string& where) {
    if (options_.use != RowUse::kSft || has_required_cells(object, usual.format)) return usual;
    RowFormat format = usual.format;
    try {
      format = find_row_format(object, options_.columns, where, options_.use);
    } catch (const Error&) {
      return usual;  // whose error names the cell
    }
    if (!has_required_cells(object, format)) return usual;
    for (const FileRenderer& other : others_) {
      if (other.format.columns == format.columns && other.format.is_conversation == format.is_conversation)
        return other;
    }
    const FileRenderer& added = others_.emplace_back(std::move(format), tokenizer_, options_);
    if (added.row_template) part_.statistics.add_template(added.template_name);
    return added;
  }

  void note_new_columns(const nlohmann::ordered_json& object, const RowFormat& format, const RowFormat& usual,
                        const std::string& place) {
    constexpr size_t kMaxColumns = 20;
    const auto is_in = [](const std::vector<std::string>& list, const std::string& column) {
      return std::find(list.begin(), list.end(), column) != list.end();
    };
    for (const auto& [column, cell] : object.items()) {
      const std::string& name = column;
      const auto is_column = [&](const auto& entry) { return entry.second == name; };
      const auto uses = [&](const RowFormat& used) {
        return std::any_of(used.columns.begin(), used.columns.end(), is_column);
      };
      if (uses(format) || uses(usual) || is_in(usual.unused_columns, name) || is_null_or_empty(cell)) continue;
      if (part_.new_columns.size() < kMaxColumns) part_.new_columns.emplace(name, place);
    }
  }

  void note_unread_options(const nlohmann::ordered_json& object, const FileRenderer& renderer, const std::string& where,
                           const std::string& place) {
    constexpr size_t kMaxOptions = 20;
    if (!renderer.row_template || !renderer.format.columns.contains("chat_template_kwargs")) return;
    const TemplateInputs inputs = template_inputs(object, renderer.format, where);
    for (const auto& [name, value] : inputs.variables.items())
      if (!renderer.row_template->reads(name) && part_.unread_options.size() < kMaxOptions)
        part_.unread_options.emplace(name, place);
  }

  void add_sft(const nlohmann::ordered_json& object, const FileRenderer& renderer, int64_t row,
               const std::string& where, const std::string& place) {
    PrepareStatistics& statistics = part_.statistics;
    const SftText text = render_sft(object, renderer.format, renderer.template_or_null(), options_.sft, where);
    const SftExample example = tokenize_sft(text, tokenizer_, options_.sft);
    if (!example.prompt_is_prefix) statistics.prompt_not_prefix.add(place);
    if (text.omits_message) statistics.omitted_message.add(place);
    if (text.asks_nothing) statistics.blank_question.add(place);
    note_tokens(example.notes, place);
    if (example.drop_reason == DropReason::kEmpty) return statistics.dropped_empty.add(place);
    if (example.drop_reason == DropReason::kNothingToLearn) return statistics.dropped_nothing_to_learn.add(place);
    count_tokens(example.token_ids, where);
    // the first token has none before it that could predict it
    statistics.num_trained_tokens += std::count(example.loss_mask.begin() + 1, example.loss_mask.end(), 1);
    count_row(example.token_ids.size(), example.is_truncated, example.ends_in_trained_eos);
    shard_.append(example.token_ids, example.loss_mask, row);
  }

  void add_pair(const nlohmann::ordered_json& object, const FileRenderer& renderer, int64_t row,
                const std::string& where, const std::string& place) {
    PrepareStatistics& statistics = part_.statistics;
    const PairText text = render_pair(object, renderer.format, renderer.template_or_null(), options_.pair, where);
    const PairExample example = tokenize_pair(text, tokenizer_, options_.pair);
    if (!example.prompt_is_prefix) statistics.prompt_not_prefix.add(place);
    if (text.asks_nothing) statistics.blank_question.add(place);
    note_tokens(example.notes, place);
    switch (example.drop_reason) {
      case PairDropReason::kNone:
        break;
      case PairDropReason::kEmptyCompletion:
        return statistics.dropped_empty_completion.add(place);
      case PairDropReason::kIdentical:
        return statistics.dropped_identical_pair.add(place);
      case PairDropReason::kIdenticalOnceCut:
        return statistics.dropped_identical_once_cut.add(place);
      case PairDropReason::kPromptTooLong:
        return statistics.dropped_prompt_too_long.add(place);
      case PairDropReason::kTooLong:
        return statistics.dropped_pair_too_long.add(place);
    }
    for (const std::vector<int32_t>* ids : {&example.chosen, &example.rejected}) {
      count_tokens(*ids, where);
      statistics.num_trained_tokens += std::ssize(*ids) - std::max<int64_t>(example.prompt_length, 1);
    }
    count_row(example.chosen.size() + example.rejected.size(), example.is_truncated, example.ends_in_eos);
    shard_.append_pair(example.chosen, example.rejected, example.prompt_length, example.margin, row);
    part_.prints.push_back(fingerprint_of(text, row));
  }

  void note_tokens(const TokenNotes& notes, const std::string& place) {
    PrepareStatistics& statistics = part_.statistics;
    if (!notes.spelled_control_token.empty()) {
      statistics.spelled_control_token.add(fmt::format("{} {}", place, notes.spelled_control_token));
    }
    if (notes.has_second_bos) statistics.second_bos.add(place);
  }

  void count_tokens(const std::vector<int32_t>& ids, const std::string& where) {
    const int64_t largest = *std::max_element(ids.begin(), ids.end());
    if (options_.vocab_size > 0 && largest >= options_.vocab_size) {
      throw_error<DataError>(
          "{}: expected token ids below {}, the rows of the embedding, got {}; the tokenizer is larger than the model",
          where, options_.vocab_size, largest);
    }
    part_.statistics.max_token_id = std::max(part_.statistics.max_token_id, largest);
    part_.statistics.num_tokens += std::ssize(ids);
  }

  void count_row(size_t num_tokens, bool is_truncated, bool ends_in_trained_eos) {
    PrepareStatistics& statistics = part_.statistics;
    ++statistics.num_rows_kept;
    statistics.num_rows_truncated += is_truncated ? 1 : 0;
    statistics.num_rows_ending_in_trained_eos += ends_in_trained_eos ? 1 : 0;
    statistics.max_row_tokens = std::max(statistics.max_row_tokens, static_cast<int64_t>(num_tokens));
    const size_t bin = std::bit_width(num_tokens) - 1;
    ++statistics.length_histogram[std::min(bin, PrepareStatistics::kNumLengthBins - 1)];
  }

  const Tokenizer& tokenizer_;
  const PrepareOptions& options_;
  TokenShardWriter& shard_;
  ShardPart& part_;
  std::deque<FileRenderer> others_;
};

std::string place_of(const SourceFile& file, const Record& record) {
  return redact_secrets(short_place({file.path, record.line, record.record}));
}

/// Rows [begin, end) of `file` into the shard.
void fill_shard(const SourceFile& file, int64_t begin, int64_t end, const FileRenderer& renderer, ShardFiller& filler,
                const std::function<void()>& after_row) {
  RecordReader reader(file.path, file.index);
  reader.seek(begin);
  for (int64_t row = begin; row < end; ++row) {
    const std::optional<Record> record = reader.next();
    check(record.has_value(), "a file has the rows that were indexed");
    filler.add(record->object, renderer, file.first_row + row, reader.where(*record), place_of(file, *record));
    after_row();
  }
}

}  // namespace

RowUse find_row_use(const SourceFile& file, const PrepareOptions& options) {
  return format_of_file(file, options).shape == RowShape::kPreference ? RowUse::kPreference : RowUse::kSft;
}

std::vector<std::string> places_of_rows(const std::vector<SourceFile>& files, std::span<const int64_t> rows) {
  std::vector<std::string> places;
  std::optional<RecordReader> reader;  // one for all rows of a file: a compressed one is read front to back
  const SourceFile* file = nullptr;
  for (const int64_t row : rows) {
    const auto after = std::upper_bound(files.begin(), files.end(), row, [](int64_t number, const SourceFile& later) {
      return number < later.first_row;
    });
    if (const SourceFile* const holder = &*std::prev(after); holder != file) {
      file = holder;
      reader.emplace(file->path, file->index);
    }
    reader->seek(row - file->first_row);
    const std::optional<Record> record = reader->next();
    check(record.has_value(), "a file has the rows that were indexed");
    places.push_back(place_of(*file, *record));
  }
  return places;
}

ShardPart write_shard(const std::vector<SourceFile>& files, const PrepareOptions& options, const std::string& directory,
                      int part, int num_parts) {
  const int64_t num_rows = files.back().first_row + files.back().index.num_records;
  // not num_rows * index / num_parts, which could overflow
  const auto bound = [&](int64_t index) {
    return num_rows / num_parts * index + num_rows % num_parts * index / num_parts;
  };
  const int64_t begin = bound(part), end = bound(part + 1);
  const Tokenizer tokenizer = load_tokenizer(options.tokenizer);
  const std::vector<FileRenderer> renderers = make_renderers(files, tokenizer, options);
  for (size_t i = 0; i < files.size() && part == 0; ++i) log_format(files[i], renderers[i].format);
  if (part == 0) log_unread_variables(renderers);

  ShardPart written;
  for (const FileRenderer& renderer : renderers)
    if (renderer.row_template) written.statistics.add_template(renderer.template_name);
  written.entry.file = fmt::format("shard-{:05}-of-{:05}.h5", part, num_parts);
  const std::string path = join_path(directory, written.entry.file);
  const bool has_pairs = options.use == RowUse::kPreference;
  TokenShardWriter shard(
      path, {std::string(has_pairs ? kPairsKind : kSftKind), has_pairs && renderers.front().has_margins()});
  ShardFiller filler(tokenizer, options, shard, written);
  Progress progress(end - begin);
  const auto after_row = [&] { progress.report(written.statistics.num_rows_read); };
  for (size_t i = 0; i < files.size(); ++i) {
    const SourceFile& file = files[i];
    const int64_t first = std::max<int64_t>(begin - file.first_row, 0);
    const int64_t last = std::min(end - file.first_row, file.index.num_records);
    const int64_t num_kept_before = written.statistics.num_rows_kept;
    if (first < last) fill_shard(file, first, last, renderers[i], filler, after_row);
    written.rows_of_files.push_back(written.statistics.num_rows_kept - num_kept_before);
  }
  shard.finish();
  written.entry.num_rows = shard.num_rows();
  written.entry.num_tokens = shard.num_tokens();
  written.entry.num_bytes = File::open_for_reading(path).size_bytes();
  written.entry.sha256 = sha256_of_file(path);
  return written;
}

}  // namespace plumb
