// plumb tokenize: JSONL {"text"} on standard input to {"ids"} on standard output, for people who need to see.
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/commands/commands.hpp"
#include "apps/options/options.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {

int run_tokenize(const std::vector<std::string>& arguments) {
  std::string model;
  OptionsDescription description("options of plumb tokenize");
  description.add_options()("model", boost::program_options::value(&model), "directory with the tokenizer");
  if (!parse_options("plumb tokenize --model DIR < texts.jsonl > ids.jsonl", description, {"model"}, arguments))
    return kExitDone;
  const Tokenizer tokenizer = load_tokenizer(model);
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

}  // namespace plumb
