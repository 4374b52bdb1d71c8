// Preference rows to pairs of token ids: two whole texts that begin with the same prompt.
// Source: the tokenization of TRL's DPOTrainer and RewardTrainer and its extract_prompt. Unlike there, pairs that teach
// nothing (equal texts, an empty answer) are dropped, and texts that differ from the start have an empty prompt
// whatever they end in.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "lib/text/row.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct PairOptions {
  int64_t max_length = 1024;           // tokens of each text; 0 keeps all
  bool drops_long_pairs = false;       // as a reward model needs ends; else texts are cut off
  bool parses_special_tokens = false;  // control tokens spelled out in the data become control tokens, as in TRL
};

struct PairText {
  MarkedText prompt;  // what both texts begin with, as far as the template renders it alike
  MarkedText chosen;  // prompt and answer
  MarkedText rejected;
  bool adds_special_tokens = true;
  bool appends_eos = false;       // templates render their own
  bool has_empty_answer = false;  // of either text
  std::optional<double> margin;
};

/// Rows without a prompt, and conversations whose prompt is text, hold the prompt in both texts: what these have in
/// common. Throws DataError beginning with `where` for a missing column, a cell of another type, or a bad message;
/// UsageError for conversations without a template.
PairText render_pair(const nlohmann::json& row, const RowFormat& format, const RowTemplate* row_template,
                     const PairOptions& options, std::string_view where);

enum class PairDropReason {
  kNone,
  kEmptyCompletion,  // an answer without text, or without a token that one before it could predict
  kIdentical,        // the same tokens twice
  kPromptTooLong,    // no place for an answer within max_length
  kTooLong,          // with drops_long_pairs: either text
};

struct PairExample {
  std::vector<int32_t> chosen;
  std::vector<int32_t> rejected;
  int64_t prompt_length = 0;  // tokens of the prompt that both texts begin with; the rest is trained
  std::optional<double> margin;
  bool is_truncated = false;     // either text
  bool prompt_is_prefix = true;  // false: tokens join across the end of the prompt, so that it is shorter by some
  bool ends_in_eos = false;      // both texts
  PairDropReason drop_reason = PairDropReason::kNone;
};

/// Both texts are tokenized whole. Throws UsageError for a bad max_length, or where EOS must be appended and the
/// tokenizer has none.
PairExample tokenize_pair(const PairText& text, const Tokenizer& tokenizer, const PairOptions& options);

}  // namespace plumb
