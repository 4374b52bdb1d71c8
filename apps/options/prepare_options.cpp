#include "apps/options/prepare_options.hpp"

#include <utility>

namespace plumb {

PrepareOptions prepare_options(const DataOptions& data, RowUse use, bool needs_whole_texts, TokenizerSource tokenizer,
                               int64_t vocab_size) {
  tokenizer.eos_token = data.eos_token;
  return {.files = data.data,
          .columns = parse_columns_option(data.columns),
          .template_name = data.chat_template,
          .use = use,
          .sft = sft_options(data),
          .pair = pair_options(data, needs_whole_texts),
          .tokenizer = std::move(tokenizer),
          .vocab_size = vocab_size};
}

}  // namespace plumb
