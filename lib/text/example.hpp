// Turns a rendered row into token ids and the mask of the tokens that are trained.
// Source: the tokenization and labels of TRL's SFTTrainer; a label of -100 there is a mask of 0 here.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/text/row.hpp"
#include "lib/text/token_notes.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

enum class DropReason {
  kNone,
  kEmpty,           // no tokens at all
  kNothingToLearn,  // no trained token has a token before it to predict it from, perhaps after truncation
};

struct SftExample {
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> loss_mask;  // 1: trained. Not shifted: marks the targets themselves
  bool prompt_is_prefix = true;    // false: the last tokens of the prompt alone are others in the whole text
  bool is_truncated = false;
  bool ends_in_trained_eos = false;  // trailing spaces of the template may follow
  TokenNotes notes;
  DropReason drop_reason = DropReason::kNone;
};

/// Tokenizes the whole text once, and the prompt alone; the first token in which they differ begins the answer. Throws
/// UsageError if options do not fit the row, or if EOS must be appended and the tokenizer has none.
SftExample tokenize_sft(const SftText& text, const Tokenizer& tokenizer, const SftOptions& options);

}  // namespace plumb
