// The parts of a directory's tokenizer, for the files of other programs.
#pragma once

#include "io/huggingface/tokenizer_files.hpp"
#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

/// The tokenizer that load_tokenizer() makes of the same source, which has checked its eos_token. Throws alike.
TokenizerReading load_tokenizer_parts(const TokenizerSource& source);

}  // namespace plumb
