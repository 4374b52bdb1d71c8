// The program itself against further runs of TRL, from the rows of a file to its metrics: variants of DPO, implicit
// prompts and margins. The records were made by tests/golden/make.py; rows and models are those of the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"
#include "tests/support/reference.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

json record(const std::string& name) {
  std::ifstream file(std::string(PLUMB_SOURCE_DIR) + "/tests/golden/" + name + ".json");
  return json::parse(file);
}

class TrlVariants : public ProgramTest {
 protected:
  /// The first rows of the record's data, changed by `change(row, number)`, as pairs.jsonl.
  template <class Change>
  void write_rows(const json& args, Change change) {
    std::ifstream file(reference_file("data/" + args["data"].get<std::string>()));
    std::string text, line;
    for (int64_t row = 0; row < args["rows"].get<int64_t>() && std::getline(file, line); ++row) {
      json object = json::parse(line);
      change(object, row);
      text += object.dump() + "\n";
    }
    directory_.write("pairs.jsonl", text);
  }

  /// Trains as recorded, eight rows in file order to a step, and compares every metric that both log.
  void replay(const std::string& stage, int num_ranks, const json& args, const json& steps, Options options) {
    const auto text = [&](const char* key) { return args[key].dump(); };
    options.insert({{"model", reference_file("models/" + args["model"].get<std::string>())},
                    {"max_steps", std::to_string(steps.size())},
                    {"learning_rate", text("lr")},
                    {"max_length", text("max_length")},
                    {"per_device_train_batch_size", std::to_string(8 / num_ranks)},
                    {"shuffle", "false"},
                    {"startup_checks", "false"},
                    {"overwrite_output_dir", "true"}});
    const RunResult result = train(stage, num_ranks, options);
    ASSERT_EQ(result.exit_code, 0) << result.err << result.launcher;
    const std::vector<json> lines = metrics("grad_norm");
    ASSERT_EQ(lines.size(), steps.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      size_t num_compared = 0;
      for (const auto& [key, value] : steps[i].items()) {
        if (!lines[i].contains(key) || key == "epoch" || !value.is_number()) continue;
        ++num_compared;
        const double expected = value.get<double>(), got = lines[i][key].get<double>();
        const double tolerance = key == "loss" ? (i == 0 ? 1e-5 : 5e-4) : 1e-3;
        EXPECT_NEAR(got, expected, tolerance * std::max(1.0, std::abs(expected))) << key << " of step " << i + 1;
      }
      EXPECT_GE(num_compared, 8u);
    }
  }
};

TEST_F(TrlVariants, OfDpoGiveTheNumbersOfTrl) {
  PLUMB_NEEDS_REFERENCE();
  const json variants = record("dpo_variants");
  json args = variants["args"];
  write_rows(args, [](json&, int64_t) {});
  int num_ranks = 1;
  for (const auto& [name, run] : variants["runs"].items()) {
    SCOPED_TRACE(name);
    if (run["options"].value("truncation_mode", "keep_start") != "keep_start") continue;  // deprecated there
    Options options;
    json run_args = args;
    for (const auto& [option, value] : run["options"].items()) {
      if (option == "truncation_mode") continue;
      if (option == "max_length") {
        run_args["max_length"] = value;
        continue;
      }
      std::string words;
      for (const json& item : value.is_array() ? value : json::array({value}))
        words += (words.empty() ? "" : " ") + (item.is_string() ? item.get<std::string>() : item.dump());
      options[option] = words;
    }
    replay("dpo", num_ranks, run_args, run["steps"], options);
    num_ranks = num_ranks == 1 ? 2 : 1;
  }
}

TEST_F(TrlVariants, ImplicitPromptsAreFoundAsTrlFindsThem) {
  PLUMB_NEEDS_REFERENCE();
  const json implicit = record("dpo_implicit_prompt");
  write_rows(implicit["args"], [](json& row, int64_t) {
    for (const char* side : {"chosen", "rejected"})
      row[side] = row["prompt"].get<std::string>() + row[side].get<std::string>();
    row.erase("prompt");
  });
  replay("dpo", 2, implicit["args"], implicit["steps"], {});
}

TEST_F(TrlVariants, MarginsOfARewardModelCount) {
  PLUMB_NEEDS_REFERENCE();
  const json margins = record("reward_margin");
  write_rows(margins["args"],
             [](json& row, int64_t number) { row["margin"] = 0.25 * static_cast<double>(number % 5); });
  replay("reward", 2, margins["args"], margins["steps"], {});
}

TEST_F(TrlVariants, ConversationsGiveTheNumbersOfTrl) {
  PLUMB_NEEDS_REFERENCE();
  const json conversational = record("conversational");
  for (const std::string stage : {"dpo", "reward"}) {
    SCOPED_TRACE(stage);
    const json& run = conversational["plain_" + stage];
    const std::string model = run["args"]["model"].get<std::string>();
    std::filesystem::copy(reference_file("models/" + model), directory_ / model);
    std::ifstream config_file(directory_ / (model + "/tokenizer_config.json"));
    json config = json::parse(config_file);
    config["chat_template"] = run["template"];
    std::filesystem::remove(directory_ / (model + "/tokenizer_config.json"));
    directory_.write(model + "/tokenizer_config.json", config.dump());
    std::string text;
    // the first step: a later one has a row with an empty answer, which plumb drops
    for (size_t i = 0; i < 4; ++i) {
      json row = conversational["rows"][i];
      if (stage == "reward") row["margin"] = conversational["margins"][i];
      text += row.dump() + "\n";
    }
    directory_.write("pairs.jsonl", text);
    replay(stage, 1, run["args"], json::array({run["steps"][0]}),
           {{"model", model}, {"per_device_train_batch_size", "4"}});
  }
}

}  // namespace
}  // namespace plumb::test
