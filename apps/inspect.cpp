// plumb inspect: rows as the model will see them, decoded, with what is trained marked; and what became of all rows.
#include <fmt/color.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>

#include "apps/commands.hpp"
#include "apps/options.hpp"
#include "apps/output_directory.hpp"
#include "io/dataset.hpp"
#include "io/prepare.hpp"
#include "io/scratch_directory.hpp"
#include "io/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct InspectOptions {
  DataOptions data;
  std::string model;
  int64_t first_row = 0;
  int64_t num_rows = 3;
};

/// Trained text in green on a terminal, and in [[...]] elsewhere.
void print_tokens(const Tokenizer& tokenizer, std::span<const int32_t> tokens, std::span<const uint8_t> loss_mask,
                  bool has_colour) {
  for (size_t begin = 0; begin < tokens.size();) {
    size_t end = begin;
    while (end < tokens.size() && loss_mask[end] == loss_mask[begin]) ++end;
    const std::string text = tokenizer.decode(tokens.subspan(begin, end - begin));
    if (!loss_mask[begin]) {
      fmt::print("{}", text);
    } else if (has_colour) {
      fmt::print(fg(fmt::terminal_color::green), "{}", text);
    } else {
      fmt::print("[[{}]]", text);
    }
    begin = end;
  }
  fmt::print("\n");
}

/// A row to fine-tune on, or the two texts of a pair.
void print_row(const Tokenizer& tokenizer, const TokenRows& row, int64_t number, bool has_colour) {
  const bool is_pair = row.documents_per_row == 2;
  for (int64_t document = 0; document < row.num_documents(); ++document) {
    const auto begin = static_cast<size_t>(row.offsets[static_cast<size_t>(document)]);
    const auto size = static_cast<size_t>(row.offsets[static_cast<size_t>(document) + 1]) - begin;
    const auto mask = std::span(row.loss_mask).subspan(begin, size);
    const std::string margin =
        row.margins.empty() || document > 0 ? "" : fmt::format(", margin {}", row.margins.front());
    fmt::print("--- row {} (source row {}){}: {} tokens, {} trained{}\n", number, row.row_ids.front(),
               is_pair ? (document == 0 ? ", chosen" : ", rejected") : "", size,
               std::count(mask.begin(), mask.end(), uint8_t{1}), margin);
    print_tokens(tokenizer, std::span(row.tokens).subspan(begin, size), mask, has_colour);
  }
}

void print_tally(const char* what, const RowTally& tally) {
  if (tally.num_rows == 0) return;
  fmt::print("{}: {}, the first at {}\n", what, tally.num_rows, fmt::join(tally.first_places, ", "));
}

void print_statistics(const PrepareStatistics& s) {
  fmt::print("rows: {} read, {} kept, {} truncated; {} tokens, {} trained, longest row {}\n", s.num_rows_read,
             s.num_rows_kept, s.num_rows_truncated, s.num_tokens, s.num_trained_tokens, s.max_row_tokens);
  fmt::print("rows that end in a trained EOS: {:.1f} %\n", 100 * s.share_ending_in_trained_eos());
  print_tally("dropped, nothing to learn", s.dropped_nothing_to_learn);
  print_tally("dropped, empty", s.dropped_empty);
  print_tally("dropped, empty answer", s.dropped_empty_completion);
  print_tally("dropped, chosen and rejected are the same", s.dropped_identical_pair);
  print_tally("dropped, the prompt has max_length", s.dropped_prompt_too_long);
  print_tally("dropped, longer than max_length", s.dropped_pair_too_long);
  print_tally("said by a pair before it, kept", s.duplicate_rows);
  print_tally("prompt tokens are no prefix of the row's", s.prompt_not_prefix);
  fmt::print("lengths:\n");
  const int64_t most = *std::max_element(s.length_histogram.begin(), s.length_histogram.end());
  for (size_t bin = 0; bin < s.length_histogram.size(); ++bin) {
    const int64_t count = s.length_histogram[bin];
    if (count > 0)
      fmt::print("  {:>8}-{:<8} {:>8} {}\n", int64_t{1} << bin, (int64_t{2} << bin) - 1, count,
                 std::string(static_cast<size_t>(1 + 40 * count / most), '#'));
  }
}

int inspect(const Communicator& comm, const InspectOptions& o) {
  if (comm.size() > 1) throw_error<UsageError>("plumb inspect runs on one rank, started on {}", comm.size());
  const ScratchDirectory scratch(comm);
  std::string directory = o.data.data.front();
  if (!std::filesystem::is_directory(directory)) {
    const DatasetIndex index = prepare_data(comm,
                                            {.files = o.data.data,
                                             .columns = parse_columns_option(o.data.columns),
                                             .template_name = o.data.chat_template,
                                             .use = RowUse::kAny,
                                             .sft = sft_options(o.data),
                                             .pair = pair_options(o.data, false),
                                             .model_directory = o.model},
                                            scratch.path());
    directory = dataset_directory(scratch.path(), index);
  }
  const Tokenizer tokenizer = load_tokenizer(o.model);
  const Dataset rows(directory);
  for (int64_t i = o.first_row; i < std::min(rows.num_rows(), o.first_row + o.num_rows); ++i)
    print_row(tokenizer, rows.row(i), i, isatty(STDOUT_FILENO) != 0);
  print_statistics(rows.index().statistics);
  return kExitDone;
}

}  // namespace

int run_inspect(const std::vector<std::string>& arguments) {
  InspectOptions options;
  OptionsDescription description("options of plumb inspect");
  declare(description, options.data);
  description.add_options()("model", boost::program_options::value(&options.model), "directory with the tokenizer")(
      "first_row", boost::program_options::value(&options.first_row)->default_value(0), "the first row shown")(
      "num_rows", boost::program_options::value(&options.num_rows)->default_value(3), "how many rows are shown");
  if (!parse_options("plumb inspect --model DIR --data FILE...|PREPARED_DIR", description, {"model", "data"},
                     arguments))
    return kExitDone;
  return run_on_ranks([&](const Communicator& comm) { return inspect(comm, options); });
}

}  // namespace plumb
