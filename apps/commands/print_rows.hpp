// Rows on standard output: decoded and human-readable, with the trained text marked; or as token ids.
#pragma once

#include <string>

#include "io/dataset/token_shard.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// A row to fine-tune on, or the two texts of a pair, each under a line that begins with `heading` and counts its
/// tokens; with the marks of show_tokens(), and color on a terminal.
void print_row(const Tokenizer& tokenizer, const TokenRows& row, const std::string& heading);

/// A line of JSON in the form of TRL's tokenized rows: "input_ids" and "labels", -100 where a token is not trained; of
/// pairs "prompt_ids", "chosen_ids" and "rejected_ids", and "margin" if there is one.
std::string row_as_ids(const TokenRows& row);

}  // namespace plumb
