#include "io/prepare_shard.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <functional>
#include <optional>

#include "io/file.hpp"
#include "io/sha256.hpp"
#include "io/token_shard.hpp"
#include "io/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/text/example.hpp"
#include "lib/text/row_format.hpp"

namespace plumb {
namespace {

/// Says every ten seconds how far this rank is.
class Progress {
 public:
  explicit Progress(int64_t num_rows) : num_rows_(num_rows) {}
  void report(int64_t num_done) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_report_) return;
    next_report_ = now + std::chrono::seconds(10);
    log_info("prepare: {} of {} rows of this rank", num_done, num_rows_);
  }

 private:
  int64_t num_rows_;
  std::chrono::steady_clock::time_point next_report_ = std::chrono::steady_clock::now() + std::chrono::seconds(10);
};

/// How the rows of one file become tokens: the file's first row decides.
struct FileRenderer {
  RowFormat format;
  std::optional<RowTemplate> row_template;

  FileRenderer(const SourceFile& file, const Tokenizer& tokenizer, const PrepareOptions& options) {
    RecordReader reader(file.path, file.index);
    const std::optional<Record> first = reader.next();
    check(first.has_value(), "an indexed file has rows");
    format = find_row_format(first->object, options.columns, reader.where(*first), RowUse::kSft);
    row_template = choose_template(format, tokenizer, options.template_name);
  }
};

void log_format(const SourceFile& file, const RowFormat& format) {
  std::string unused;
  for (const std::string& column : format.unused_columns) unused += (unused.empty() ? "" : ", ") + column;
  log_info("prepare: {}: {} rows of {}{}", file.path, file.index.num_records, name_of(format.shape),
           unused.empty() ? "" : "; unused columns: " + unused);
}

void check_ids(const SftExample& example, int64_t vocab_size, const std::string& where) {
  for (const int32_t id : example.token_ids) {
    if (vocab_size == 0 || id < vocab_size) continue;
    throw_error<DataError>(
        "{}: expected token ids below {}, the rows of the embedding, got {}; the tokenizer is larger than the model",
        where, vocab_size, id);
  }
}

void count_kept(const SftExample& example, PrepareStatistics& statistics) {
  const std::vector<int32_t>& ids = example.token_ids;
  const auto num_tokens = static_cast<int64_t>(ids.size());
  ++statistics.num_rows_kept;
  statistics.num_tokens += num_tokens;
  // the first token has none before it that could predict it
  statistics.num_trained_tokens += std::count(example.loss_mask.begin() + 1, example.loss_mask.end(), 1);
  statistics.num_rows_truncated += example.is_truncated ? 1 : 0;
  statistics.num_rows_ending_in_trained_eos += example.ends_in_trained_eos ? 1 : 0;
  statistics.max_row_tokens = std::max(statistics.max_row_tokens, num_tokens);
  statistics.max_token_id = std::max(statistics.max_token_id, int64_t{*std::max_element(ids.begin(), ids.end())});
  const size_t bin = std::bit_width(ids.size()) - 1;
  ++statistics.length_histogram[std::min(bin, PrepareStatistics::kNumLengthBins - 1)];
}

/// Rows [begin, end) of `file` into the shard.
void tokenize_rows(const SourceFile& file, int64_t begin, int64_t end, const Tokenizer& tokenizer,
                   const PrepareOptions& options, TokenShardWriter& shard, PrepareStatistics& statistics,
                   const std::function<void()>& after_row) {
  const FileRenderer renderer(file, tokenizer, options);
  const RowTemplate* row_template = renderer.row_template ? &*renderer.row_template : nullptr;
  RecordReader reader(file.path, file.index);
  reader.seek(begin);
  for (int64_t row = begin; row < end; ++row) {
    const std::optional<Record> record = reader.next();
    check(record.has_value(), "a file has the rows that were indexed");
    const std::string where = reader.where(*record);
    const std::string place = fmt::format("{}:{}", file.path, record->line);
    const SftText text = render_sft(record->object, renderer.format, row_template, options.sft, where);
    const SftExample example = tokenize_sft(text, tokenizer, options.sft);
    ++statistics.num_rows_read;
    if (!example.prompt_is_prefix) statistics.prompt_not_prefix.add(place);
    if (example.drop_reason == DropReason::kEmpty) {
      statistics.dropped_empty.add(place);
    } else if (example.drop_reason == DropReason::kNothingToLearn) {
      statistics.dropped_nothing_to_learn.add(place);
    } else {
      check_ids(example, options.vocab_size, where);
      count_kept(example, statistics);
      shard.append(example.token_ids, example.loss_mask, file.first_row + row);
    }
    after_row();
  }
}

}  // namespace

ShardPart write_shard(const std::vector<SourceFile>& files, const PrepareOptions& options, const std::string& directory,
                      int part, int num_parts) {
  const int64_t num_rows = files.back().first_row + files.back().index.num_records;
  // not num_rows * index / num_parts, which could overflow
  const auto bound = [&](int64_t index) {
    return num_rows / num_parts * index + num_rows % num_parts * index / num_parts;
  };
  const int64_t begin = bound(part), end = bound(part + 1);
  const Tokenizer tokenizer = load_tokenizer(options.model_directory);
  if (part == 0) {
    for (const SourceFile& file : files) log_format(file, FileRenderer(file, tokenizer, options).format);
  }

  ShardPart written;
  written.entry.file = fmt::format("shard-{:05}-of-{:05}.h5", part, num_parts);
  const std::string path = join_path(directory, written.entry.file);
  TokenShardWriter shard(path);
  Progress progress(end - begin);
  const auto after_row = [&] { progress.report(written.statistics.num_rows_read); };
  for (const SourceFile& file : files) {
    const int64_t first = std::max<int64_t>(begin - file.first_row, 0);
    const int64_t last = std::min(end - file.first_row, file.index.num_records);
    if (first < last) tokenize_rows(file, first, last, tokenizer, options, shard, written.statistics, after_row);
  }
  shard.finish();
  written.entry.num_rows = shard.num_rows();
  written.entry.num_tokens = shard.num_tokens();
  written.entry.num_bytes = File::open_for_reading(path).size_bytes();
  written.entry.sha256 = sha256_of_file(path);
  return written;
}

}  // namespace plumb
