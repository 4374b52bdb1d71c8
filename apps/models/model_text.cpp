#include "apps/models/model_text.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/text/own_template.hpp"
#include "lib/text/turn_end.hpp"

namespace plumb {

namespace {

void add(std::vector<int32_t>& ids, int32_t id) {
  if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

/// Without the template.
std::vector<int32_t> ends_of_text(const TokenizerSource& source, const ModelConfig& config,
                                  const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = config.eos_token_ids;
  for (const int32_t id : read_generation_ends(source)) add(ids, id);
  if (const auto eos = tokenizer.eos_id()) add(ids, *eos);
  return ids;
}

TurnEnd find_turn_end(const Tokenizer& tokenizer, std::string_view template_name) {
  try {
    const std::optional<ChatTemplate> chat = ChatTemplate::find(tokenizer, template_name);
    return chat ? plumb::find_turn_end(*chat, tokenizer) : TurnEnd();
  } catch (const DataError&) {
    return {};  // rows that need this template are refused by name; others do not
  }
}

}  // namespace

std::vector<int32_t> end_ids(const TokenizerSource& source, const ModelConfig& config, const Tokenizer& tokenizer,
                             std::string_view template_name) {
  std::vector<int32_t> ids = ends_of_text(source, config, tokenizer);
  if (const auto end = find_turn_end(tokenizer, template_name).id) add(ids, *end);
  return ids;
}

ExportedText exported_text(const TokenizerSource& source, const Tokenizer& tokenizer,
                           const std::optional<std::string>& template_name) {
  read_generation_ends(source);  // refuses now what an export could not read
  ExportedText text{.tokenizer = source, .eos_id = tokenizer.eos_id()};
  if (!template_name) return text;
  text.turn_end = find_turn_end(tokenizer, *template_name).id;
  if (template_name->empty()) return text;
  OwnTemplate own = own_template(*template_name, tokenizer);
  if (!own.gives_same_tokens)
    log_warning(
        "template {}: others tokenize it otherwise, because this tokenizer puts more around a text than a template can "
        "render; give --chat_template {} wherever the model is used",
        *template_name, *template_name);
  text.chat_template = std::move(own.source);
  return text;
}

std::optional<std::string> template_of_rows(const std::vector<std::string>& templates) {
  if (templates.size() > 1)
    log_warning("the rows were rendered with the templates {}: none goes with the export; give one --chat_template",
                fmt::join(templates, " and "));
  return templates.size() == 1 ? std::optional(templates.front()) : std::nullopt;
}

void log_turn_end(const TokenizerSource& source, const Tokenizer& tokenizer, const ModelConfig& config,
                  std::string_view template_name) {
  const TurnEnd end = find_turn_end(tokenizer, template_name);
  const std::vector<int32_t> ids = ends_of_text(source, config, tokenizer);
  if (!end.id) {
    log_warning(
        "the chat template ends a turn of the assistant in {}, which is no token of its own in this vocabulary: the "
        "model does not learn to stop; name another --chat_template, or a model whose vocabulary has the token",
        end.text.empty() ? "nothing" : "\"" + end.text + "\"");
  } else if (std::find(ids.begin(), ids.end(), *end.id) == ids.end()) {
    const std::string token = tokenizer.decode(std::span(&*end.id, 1));
    log_warning(
        "the chat template ends a turn of the assistant in {}, which ends no text of {} so far: answers end there, and "
        "the export's generation_config.json lists it; --eos_token '{}' makes it the tokenizer's EOS, too",
        token, source.model, token);
  }
}

void log_adapter_tokenizer(const TokenizerSource& source) {
  if (has_other_tokenizer(source))
    log_info("{} has a tokenizer or chat template of its own: it is used, not that of {}", source.adapter,
             source.model);
}

}  // namespace plumb
