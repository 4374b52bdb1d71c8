// Whose ids a tokenizer gives where transformers 4 and 5 read the same directory differently.
#pragma once

#include "lib/base/named.hpp"

namespace plumb {

/// kTransformers5: as tokenizer_class.hpp describes. kTransformers4: tokenizer.json as it is written; a tokenizer.model
/// as its own normalizer_spec says.
enum class TokenizerBehavior { kTransformers5, kTransformers4 };

template <>
inline constexpr auto kNames<TokenizerBehavior> = std::to_array<Named<TokenizerBehavior>>(
    {{"transformers5", TokenizerBehavior::kTransformers5}, {"transformers4", TokenizerBehavior::kTransformers4}});

}  // namespace plumb
