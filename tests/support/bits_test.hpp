// Base of the SameBits tests: a short run of a stage, and its outcome on one rank.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/outcome.hpp"
#include "tests/support/program_test.hpp"

namespace plumb::test {

struct BitsCase {
  const char* stage;
  const char* dtype;
  const char* name = "";  // describes the options
  Options options = {};
};

inline void PrintTo(const BitsCase& given, std::ostream* out) {
  *out << given.stage << " in " << given.dtype << " " << given.name;
}

/// Every global batch has 24 micro-batches of one row.
class BitsTest : public ProgramTest, public testing::WithParamInterface<BitsCase> {
 protected:
  /// Runs three steps, the last in a second epoch. ranks_per_node = 0 means one node.
  Outcome outcome_of(int num_ranks, Options options = {}, int ranks_per_node = 0) const {
    options.insert(GetParam().options.begin(), GetParam().options.end());
    options.insert({{"dtype", GetParam().dtype},
                    {"per_device_train_batch_size", "1"},
                    {"gradient_accumulation_steps", std::to_string(24 / num_ranks)},
                    {"max_steps", "3"},
                    {"learning_rate", "0.001"},
                    {"weight_decay", "0.1"},
                    {"max_grad_norm", "0.5"},
                    {"eval_data", "eval.jsonl"},
                    {"per_device_eval_batch_size", "1"},
                    {"overwrite_output_dir", "true"}});
    RunOptions run_options;
    if (ranks_per_node > 0) run_options.environment["PLUMB_RANKS_PER_NODE"] = std::to_string(ranks_per_node);
    const RunResult result = train(GetParam().stage, num_ranks, options, run_options);
    EXPECT_EQ(result.exit_code, 0) << num_ranks << " ranks: " << result.err << result.launcher;
    if (result.exit_code != 0) return {};
    const int num_nodes = ranks_per_node > 0 ? (num_ranks + ranks_per_node - 1) / ranks_per_node : 1;
    EXPECT_EQ(nlohmann::json::parse(directory_.read("out/run.json"))["nodes"], num_nodes);
    return read_outcome(directory_ / "out");
  }

  /// The run on one rank is executed once per case.
  void SetUp() override {
    ProgramTest::SetUp();
    directory_.write("eval.jsonl", GetParam().stage == std::string("sft") ? rows(7) : pairs(7));
    static std::map<std::string, Outcome> made;
    const auto [place, is_new] = made.try_emplace(testing::PrintToString(GetParam()));
    if (is_new) {
      place->second = outcome_of(1);
      ASSERT_EQ(place->second.metrics.size(), 5u);  // 3 steps, evaluations after step 2 and 3
      ASSERT_FALSE(place->second.weights.empty());
      ASSERT_NE(place->second.weights, directory_.read("model/model.safetensors"));
    }
    one_rank_ = place->second;
  }

  Outcome one_rank_;
};

}  // namespace plumb::test
