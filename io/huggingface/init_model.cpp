#include "io/huggingface/init_model.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file/file.hpp"
#include "io/huggingface/hf_export.hpp"
#include "io/huggingface/new_tokens.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/model/initialize.hpp"
#include "lib/model/parameters.hpp"
#include "lib/text/chat_template.hpp"
#include "lib/text/named_templates.hpp"
#include "lib/text/own_template.hpp"
#include "lib/tokenizer/byte_level.hpp"

namespace plumb {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr int64_t kChunkElements = 1 << 20;
constexpr int64_t kMaxTokenizerBytes = 256 << 20;

constexpr const char* kEndOfText = "<|endoftext|>";
constexpr const char* kTurnEnd = "<|im_end|>";
constexpr const char* kPad = "<|pad|>";
constexpr std::array kControlTokens = {kEndOfText, "<|im_start|>", kTurnEnd, kPad};
constexpr int kFirstControlId = 256;

std::string render_byte_level_json() {
  ordered_json vocabulary = ordered_json::object();
  for (int byte = 0; byte < kFirstControlId; ++byte) {
    std::string token;
    append_byte_level(token, std::string(1, static_cast<char>(byte)));
    vocabulary[token] = byte;
  }
  ordered_json added = ordered_json::array();
  for (size_t i = 0; i < kControlTokens.size(); ++i) {
    ordered_json token = control_token(kControlTokens[i]);
    token["id"] = kFirstControlId + static_cast<int>(i);
    added.push_back(token);
  }
  const ordered_json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const ordered_json model = {{"type", "BPE"},
                              {"dropout", nullptr},
                              {"unk_token", nullptr},
                              {"continuing_subword_prefix", nullptr},
                              {"end_of_word_suffix", nullptr},
                              {"fuse_unk", false},
                              {"byte_fallback", false},
                              {"ignore_merges", false},
                              {"vocab", vocabulary},
                              {"merges", ordered_json::array()}};
  const ordered_json tokenizer = {{"version", "1.0"},          {"truncation", nullptr}, {"padding", nullptr},
                                  {"added_tokens", added},     {"normalizer", nullptr}, {"pre_tokenizer", byte_level},
                                  {"post_processor", nullptr}, {"decoder", byte_level}, {"model", model}};
  return tokenizer.dump(2) + "\n";
}

/// Throws UsageError if there is no template of that name.
std::string_view template_source(std::string_view name) {
  ChatTemplate::named(name, "", "");
  return find_named_template(name)->source;
}

std::string render_byte_level_config(std::string_view template_name, const char* eos) {
  json config = {{"bos_token", nullptr},
                 {"eos_token", eos},
                 {"pad_token", kPad},
                 {"clean_up_tokenization_spaces", false},
                 {"tokenizer_class", "PreTrainedTokenizerFast"}};
  for (size_t i = 0; i < kControlTokens.size(); ++i)
    config["added_tokens_decoder"][std::to_string(kFirstControlId + i)] = control_token(kControlTokens[i]);
  if (!template_name.empty()) config["chat_template"] = template_source(template_name);
  return config.dump(2) + "\n";
}

NewTokenizer describe(std::vector<TextFile> files, const Tokenizer& tokenizer) {
  return {std::move(files), tokenizer.vocab_size(), tokenizer.bos_id().value_or(-1), tokenizer.eos_id().value_or(-1)};
}

void write_weights(const ExportPlan& plan, const std::string& temporary, const std::vector<UnitLayout>& units,
                   const ModelConfig& config, uint64_t seed) {
  std::vector<float> chunk(kChunkElements);
  for (size_t unit = 0; unit < units.size(); ++unit) {
    const int64_t size = units[unit].num_elements;
    for (int64_t begin = 0; begin < size; begin += kChunkElements) {
      const int64_t end = std::min(begin + kChunkElements, size);
      const auto values = std::span(chunk).first(end - begin);
      initialize_unit_range(units[unit], config, seed, begin, end, values);
      write_unit_range(plan, temporary, unit, begin, end, values);
    }
  }
}

}  // namespace

NewTokenizer make_byte_level_tokenizer(std::string_view template_name) {
  if (template_name == "llama3")
    throw UsageError(
        "--chat_template llama3: expected a tokenizer with <|eot_id|>, got the byte-level one; name a "
        "Llama 3 model with --tokenizer, or use chatml");
  const char* eos = template_name == "chatml" ? kTurnEnd : kEndOfText;
  std::vector<TextFile> files = {{"tokenizer.json", render_byte_level_json()},
                                 {"tokenizer_config.json", render_byte_level_config(template_name, eos)}};
  const Tokenizer tokenizer = Tokenizer::from_json(files[0].content, files[1].content);
  return describe(std::move(files), tokenizer);
}

NewTokenizer copy_tokenizer(const std::string& model_directory, std::string_view template_name) {
  const Tokenizer tokenizer = load_tokenizer(model_directory);
  std::vector<TextFile> files;
  json config = json::object();
  for (const std::string& path : tokenizer_files(model_directory)) {
    const std::string name = std::filesystem::path(path).filename().string();
    std::string content = read_text_file(path, kMaxTokenizerBytes);
    if (!template_name.empty() && name == "chat_template.jinja") continue;
    if (!template_name.empty() && name == "tokenizer_config.json") {
      config = json::parse(content);
    } else {
      files.push_back({name, std::move(content)});
    }
  }
  FurtherTemplates further = read_further_templates({model_directory}, config);
  if (!template_name.empty()) {
    drop_tool_template(further);
    config["chat_template"] = own_template(template_name, tokenizer).source;
    files.push_back({"tokenizer_config.json", config.dump(2) + "\n"});
  }
  NewTokenizer copy = describe(std::move(files), tokenizer);
  copy.further_templates = std::move(further);
  return copy;
}

void write_random_model(const std::string& directory, const ModelConfig& config, Dtype dtype, uint64_t seed,
                        const NewTokenizer& tokenizer, ExistingDirectory existing) {
  const std::vector<UnitLayout> units = unit_layouts(config);
  const ExportPlan plan = plan_export(units, dtype);
  AtomicDirectory model(directory, existing);
  const std::string& temporary = model.temporary_path();
  create_export_files(plan, temporary);
  write_weights(plan, temporary, units, config, seed);
  for (const TextFile& file : tokenizer.files) write_new_file(join_path(temporary, file.name), file.content);
  write_further_templates(tokenizer.further_templates, temporary);
  finish_export(plan, temporary, config, {});
  model.publish();
}

}  // namespace plumb
