// plumb tokenize: JSONL {"text"} on standard input to {"ids"} on standard output, to look at a tokenization.
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/commands/commands.hpp"
#include "apps/options/options.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct TokenizeOptions {
  std::string model;
  TokenizerBehavior behavior = TokenizerBehavior::kTransformers5;
};

std::vector<BoundOption> bind_options(TokenizeOptions& o) {
  return {declare("model", OptionGroup::kModel, o.model, "directory with the tokenizer", {.value_name = "DIR"}),
          tokenizer_behavior_option(o.behavior)};
}

int run_tokenize(const TokenizeOptions& o) {
  const Tokenizer tokenizer = load_tokenizer({o.model, "", "", o.behavior});
  int64_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    ++number;
    if (line.empty()) continue;
    const auto row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("text") || !row["text"].is_string())
      throw_error<DataError>("standard input: line {}: expected {{\"text\": \"...\"}}, got {:.60}", number, line);
    try {
      std::cout << nlohmann::json{{"ids", tokenizer.encode(row["text"].get_ref<const std::string&>())}}.dump() << '\n';
    } catch (const DataError& error) {
      throw_error<DataError>("standard input: line {}: {}", number, error.what());
    }
  }
  return kExitDone;
}

}  // namespace

Command tokenize_command() {
  return make_command<TokenizeOptions>({.name = "tokenize",
                                        .summary = "JSONL {\"text\"} on standard input to {\"ids\"}",
                                        .usage = "--model DIR < texts.jsonl > ids.jsonl",
                                        .example = "plumb tokenize --model MODEL_DIR < texts.jsonl > ids.jsonl",
                                        .required = {"model"}},
                                       bind_options, run_tokenize);
}

}  // namespace plumb
