// The program against further runs of TRL, from the rows of a file to the metrics: variants of DPO, implicit prompts
// and margins. tests/golden/make.py made the records; rows and models are those of the reference.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/support/trl_replay_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

using TrlVariants = TrlReplayTest;

TEST_F(TrlVariants, OfDpoGiveTheNumbersOfTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json variants = golden_record("dpo_variants");
  json args = variants["args"];
  directory_.write("pairs.jsonl", reference_rows(args["data"], args["rows"]));
  int num_ranks = 1;
  for (const auto& [name, run] : variants["runs"].items()) {
    SCOPED_TRACE(name);
    if (run["options"].value("truncation_mode", "keep_start") != "keep_start") continue;  // deprecated in TRL
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
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json implicit = golden_record("dpo_implicit_prompt");
  const json& args = implicit["args"];
  directory_.write("pairs.jsonl", reference_rows(args["data"], args["rows"], [](json& row, int64_t) {
                     for (const char* side : {"chosen", "rejected"})
                       row[side] = row["prompt"].get<std::string>() + row[side].get<std::string>();
                     row.erase("prompt");
                   }));
  replay("dpo", 2, args, implicit["steps"], {});
}

TEST_F(TrlVariants, MarginsEnterTheRewardLoss) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json margins = golden_record("reward_margin");
  const json& args = margins["args"];
  directory_.write("pairs.jsonl", reference_rows(args["data"], args["rows"], [](json& row, int64_t number) {
                     row["margin"] = 0.25 * static_cast<double>(number % 5);
                   }));
  replay("reward", 2, args, margins["steps"], {});
}

TEST_F(TrlVariants, ConversationsGiveTheNumbersOfTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json conversational = golden_record("conversational");
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
    // only the first step: a later one has a row with an empty answer, which plumb drops
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
