// The text side of a model: where generation ends, and which tokenizer and template go with its weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/huggingface/exported_text.hpp"
#include "lib/model/model_config.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// The ids at which generation ends: those of config.json and generation_config.json, the tokenizer's EOS, and the end
/// of a turn of the named template or, for "", the tokenizer's own.
std::vector<int32_t> end_ids(const TokenizerSource& source, const ModelConfig& config, const Tokenizer& tokenizer,
                             std::string_view template_name);

/// The tokenizer, template and ends of text that go with exported weights. template_name: of the template that rendered
/// the rows, "" for the tokenizer's own; none: no row had one. Logs where nobody else can render as the template does.
ExportedText exported_text(const TokenizerSource& source, const Tokenizer& tokenizer,
                           const std::optional<std::string>& template_name);

/// The template that rendered all rows, by the statistics of prepared rows, as above. Where there were several, logs
/// that none goes with the export.
std::optional<std::string> template_of_rows(const std::vector<std::string>& templates);

/// Logs where the assistant's turns end in a token that ends no text of the model, or in none.
void log_turn_end(const TokenizerSource& source, const Tokenizer& tokenizer, const ModelConfig& config,
                  std::string_view template_name);

/// Logs that an adapter's tokenizer or template is used, if it is not the model's.
void log_adapter_tokenizer(const TokenizerSource& source);

}  // namespace plumb
