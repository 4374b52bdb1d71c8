// Where texts begin to end: their prefixes, and the EOS behind them, as text and among tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

MarkedText prefix_of(const MarkedText& marked, size_t num_bytes);

/// The text with EOS at its end, as a control token. What follows the prompt and spells EOS out at its very end means
/// it. Throws UsageError without an EOS.
MarkedText with_eos(const MarkedText& marked, size_t prompt_bytes, const std::string& eos);

/// Which token is the EOS that a text ends in; spaces of a template may follow it.
std::optional<size_t> find_final_eos(std::span<const int32_t> token_ids, const Tokenizer& tokenizer);

}  // namespace plumb
