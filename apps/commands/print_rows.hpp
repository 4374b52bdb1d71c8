// Rows in human-readable form: decoded, with the trained text marked.
#pragma once

#include <string>

#include "io/dataset/token_shard.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// On standard output: a row to fine-tune on, or the two texts of a pair, each under a line that begins with `heading`
/// and counts its tokens. Trained text is green on a terminal, and in [[...]] elsewhere.
void print_row(const Tokenizer& tokenizer, const TokenRows& row, const std::string& heading);

}  // namespace plumb
