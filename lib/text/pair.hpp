// Turns preference rows into pairs of token ids: two whole texts that begin with the same prompt.
// Source: the tokenization of TRL's DPOTrainer and RewardTrainer, and TRL's extract_prompt. Unlike TRL, pairs that
// teach nothing (equal texts, an empty answer) are dropped, and texts that differ from the start always have an empty
// prompt.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "lib/text/row.hpp"
#include "lib/text/token_notes.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct PairOptions {
  int64_t max_length = 1024;           // tokens of each text; 0 keeps all
  bool drops_long_pairs = false;       // for reward models, which score the end; else texts are truncated
  bool parses_special_tokens = false;  // control tokens spelled out in the data become control tokens, as in TRL
};

struct PairText {
  MarkedText prompt;  // the common beginning of both texts, as far as the template renders it identically
  MarkedText chosen;  // prompt and answer
  MarkedText rejected;
  bool adds_special_tokens = true;
  bool appends_eos = false;       // false with templates, which render their own
  bool has_empty_answer = false;  // of either text
  bool asks_nothing = false;      // the prompt is blank
  std::optional<double> margin;
  std::optional<int32_t> turn_end;  // of the template
};

/// In rows without a prompt, and in conversations whose prompt is text, the prompt is the common beginning of both
/// texts. Throws DataError beginning with `where` for a missing column, a cell of the wrong type, or an invalid
/// message; UsageError for conversations without a template.
PairText render_pair(const nlohmann::ordered_json& row, const RowFormat& format, const RowTemplate* row_template,
                     const PairOptions& options, std::string_view where);

enum class PairDropReason {
  kNone,
  kEmptyCompletion,   // an answer without text, or without a token that can be predicted
  kIdentical,         // both texts have the same tokens
  kIdenticalOnceCut,  // to max_length
  kPromptTooLong,     // the prompt leaves no room for an answer within max_length
  kTooLong,           // one text exceeds max_length, with drops_long_pairs
};

struct PairExample {
  std::vector<int32_t> chosen;
  std::vector<int32_t> rejected;
  int64_t prompt_length = 0;  // tokens of the common prompt; the tokens after it are trained
  std::optional<double> margin;
  bool is_truncated = false;     // either text
  bool prompt_is_prefix = true;  // false: the last tokens of the prompt alone are others in the whole texts
  bool ends_in_eos = false;      // both texts
  TokenNotes notes;              // of either text
  PairDropReason drop_reason = PairDropReason::kNone;
};

/// Tokenizes both texts whole. Throws UsageError for an invalid max_length, or if EOS must be appended and the
/// tokenizer has none.
PairExample tokenize_pair(const PairText& text, const Tokenizer& tokenizer, const PairOptions& options);

}  // namespace plumb
