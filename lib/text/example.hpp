// A rendered row to token ids and the mask of those that are trained.
// Source: the tokenization and labels of TRL's SFTTrainer; a label of -100 there is a mask of 0 here.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/text/row.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

enum class DropReason {
  kNone,
  kEmpty,           // no tokens at all
  kNothingToLearn,  // no trained token that a token before it could predict, perhaps after truncation
};

struct SftExample {
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> loss_mask;  // 1: trained. Not shifted: it says which tokens are targets
  bool prompt_is_prefix = true;    // false: tokens join across the end of the prompt, so that the mask is off by some
  bool is_truncated = false;
  bool ends_in_trained_eos = false;  // spaces of the template may follow
  DropReason drop_reason = DropReason::kNone;
};

/// The whole text is tokenized once; tokens past the number that the prompt alone has are trained. Throws UsageError
/// where options do not fit the row or EOS must be appended and the tokenizer has none.
SftExample tokenize_sft(const SftText& text, const Tokenizer& tokenizer, const SftOptions& options);

}  // namespace plumb
