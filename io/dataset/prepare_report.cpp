#include "io/dataset/prepare_report.hpp"

#include <algorithm>
#include <string>
#include <string_view>

#include "io/dataset/token_shard.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {
namespace {

std::string describe(std::string_view reason, const RowTally& tally) {
  if (tally.num_rows == 0) return "";
  std::string places;
  for (size_t i = 0; i < std::min<size_t>(tally.first_places.size(), 3); ++i) {
    places += (i == 0 ? "" : ", ") + tally.first_places[i];
  }
  const bool has_more = tally.num_rows > 3;
  return fmt::format("; {} {} ({}{})", tally.num_rows, reason, places, has_more ? ", ..." : "");
}

std::string describe_dropped(const PrepareStatistics& statistics) {
  std::string all;
  for (const RowReason& reason : drop_reasons()) all += describe(reason.text, statistics.*reason.tally);
  return all;
}

/// A warning about rows that may be a mistake.
struct Advice {
  RowTally PrepareStatistics::*tally;
  const char* message;
};

constexpr Advice kAdvice[] = {
    {&PrepareStatistics::duplicate_rows, "pairs with the same texts as an earlier one; they are kept"},
    {&PrepareStatistics::prompt_not_prefix,
     "the last tokens of some prompts are others before the answer, as where a prompt ends in a space; the answer is "
     "trained from the first token that differs"},
    {&PrepareStatistics::omitted_message,
     "the chat template renders nothing of some messages, which are not trained on"},
    {&PrepareStatistics::spelled_control_token,
     "some rows spell out control tokens, which stay text as if a user had typed them; if the rows were rendered with "
     "a "
     "chat template before, give --parse_special_tokens"},
    {&PrepareStatistics::second_bos,
     "some rows begin with two BOS tokens: one that the text spells and one that the tokenizer adds; leave it out of "
     "the text"},
    {&PrepareStatistics::blank_question, "some rows ask nothing: their prompt, instruction or question is blank"}};

}  // namespace

void check_rows_kept(const PrepareStatistics& statistics) {
  if (statistics.num_rows_kept > 0) return;
  throw_error<DataError>("data: expected rows to train on, kept none of {}{}; is max_length long enough?",
                         statistics.num_rows_read, describe_dropped(statistics));
}

void report_rows(const DatasetIndex& index) {
  const PrepareStatistics& statistics = index.statistics;
  const std::string_view rows = index.kind == kPairsKind ? "pairs" : "rows";
  log_info("prepare: kept {} of {} {}, {} tokens, {} trained; {} truncated{}", statistics.num_rows_kept,
           statistics.num_rows_read, rows, statistics.num_tokens, statistics.num_trained_tokens,
           statistics.num_rows_truncated, describe_dropped(statistics));
  for (const Advice& advice : kAdvice) {
    const RowTally& tally = statistics.*advice.tally;
    if (tally.num_rows > 0)
      log_warning("prepare: {}{}", advice.message, describe(tally.num_rows == 1 ? "row" : "rows", tally));
  }
  const double share = statistics.share_ending_in_trained_eos();
  if (share < 0.5) {
    log_warning(
        "prepare: only {:.1f} % of the {} end in a trained end-of-text token; the model may not learn to stop. Is "
        "max_length too short, or the template without one?",
        100 * share, rows);
  }
}

}  // namespace plumb
