// The options of preparation, made in one place for every stage and command that tokenizes rows.
#pragma once

#include <cstdint>
#include <string>

#include "apps/options/options.hpp"
#include "io/dataset/prepare_options.hpp"

namespace plumb {

/// tokenizer: its eos_token is that of `data`. needs_whole_texts: pairs longer than max_length are left out, as a
/// reward model needs their ends; otherwise they are truncated. vocab_size: rows of the embedding; 0: unknown. Throws
/// UsageError for data.columns that cannot be read.
PrepareOptions prepare_options(const DataOptions& data, RowUse use, bool needs_whole_texts, TokenizerSource tokenizer,
                               int64_t vocab_size = 0);

}  // namespace plumb
