// Tokens as text that a person can check: what is trained is visible without color, and a control token differs from
// the same letters typed by a user.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// Explains the marks of show_tokens().
inline constexpr const char* kTokenMarks =
    "what is trained is in [[ ]]; a backslash within the letters of a control token: they are plain text";

/// The decoded tokens, trained ones in [[...]]. A control token is shown as it is spelled; where text spells one, a
/// backslash follows the first character. With `has_color`, terminal colors too. loss_mask: 1 for each trained token.
std::string show_tokens(const Tokenizer& tokenizer, std::span<const int32_t> token_ids,
                        std::span<const uint8_t> loss_mask, bool has_color);

}  // namespace plumb
