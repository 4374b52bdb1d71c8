// Handles the ends of texts: prefixes, appending EOS to text, and finding the final EOS among tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// True for white space alone.
bool is_blank(std::string_view text);

MarkedText prefix_of(const MarkedText& marked, size_t num_bytes);

/// Appends EOS as a control token. If the text after the prompt already ends in the spelling of EOS, that spelling
/// becomes the control token. Throws UsageError if `eos` is empty.
MarkedText with_eos(const MarkedText& marked, size_t prompt_bytes, const std::string& eos);

/// Index of the token that ends a text: EOS, or the end of a turn of its template. Trailing spaces of the template may
/// follow it.
std::optional<size_t> find_final_end(std::span<const int32_t> token_ids, const Tokenizer& tokenizer,
                                     std::optional<int32_t> turn_end);

}  // namespace plumb
