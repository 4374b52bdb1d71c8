#include "apps/options/prepare_options.hpp"

namespace plumb {

PrepareOptions prepare_options(const DataOptions& data, RowUse use, bool needs_whole_texts,
                               const std::string& model_directory, int64_t vocab_size) {
  return {.files = data.data,
          .columns = parse_columns_option(data.columns),
          .template_name = data.chat_template,
          .template_variables = data.chat_template_kwargs,
          .use = use,
          .sft = sft_options(data),
          .pair = pair_options(data, needs_whole_texts),
          .model_directory = model_directory,
          .vocab_size = vocab_size};
}

}  // namespace plumb
