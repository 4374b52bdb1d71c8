// Where an answer begins among the tokens of a text: at the first token in which the tokens of the prompt alone and
// those of the whole text differ. A token that spans the end of the prompt belongs to the answer. Source: TRL's
// SFTTrainer and DPOTrainer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace plumb {

/// The number of tokens that both begin with.
inline size_t count_common_tokens(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace plumb
