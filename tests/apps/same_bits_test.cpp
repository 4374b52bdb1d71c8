// The same global batch gives the same bits on any number of ranks and nodes: every number that a run logs, as text,
// and the exported weights. 24 micro-batches of one row per step.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

struct Outcome {
  std::vector<std::string> lines;  // of metrics.jsonl, without times and memory
  std::string weights;

  bool operator==(const Outcome&) const = default;
};

void PrintTo(const Outcome& outcome, std::ostream* out) {
  for (const std::string& line : outcome.lines) *out << line << "\n";
  *out << outcome.weights.size() << " bytes of weights, hash " << std::hash<std::string>()(outcome.weights);
}

class SameBits : public ProgramTest, public testing::WithParamInterface<const char*> {
 protected:
  /// Three steps, the last in a second epoch. ranks_per_node 0: one node.
  Outcome train(int num_ranks, Options options = {}, int ranks_per_node = 0) const {
    options.insert({{"dtype", GetParam()},
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
    const RunResult result = sft(num_ranks, options, run_options);
    EXPECT_EQ(result.exit_code, 0) << num_ranks << " ranks: " << result.err << result.launcher;
    if (result.exit_code != 0) return {};
    const int num_nodes = ranks_per_node > 0 ? (num_ranks + ranks_per_node - 1) / ranks_per_node : 1;
    EXPECT_EQ(nlohmann::json::parse(directory_.read("out/run.json"))["nodes"], num_nodes);
    Outcome outcome{lines_with(directory_.read("out/metrics.jsonl"), "\"step\""),
                    directory_.read("out/model/model.safetensors")};
    for (std::string& line : outcome.lines) line.erase(std::min(line.find(",\"step_seconds\""), line.size()));
    return outcome;
  }

  void SetUp() override {
    ProgramTest::SetUp();
    directory_.write("eval.jsonl", rows(7));
    one_rank_ = train(1);
    ASSERT_EQ(one_rank_.lines.size(), 5u);  // 3 steps, evaluations after step 2 and 3
    ASSERT_NE(one_rank_.weights, directory_.read("model/model.safetensors"));
  }

  Outcome one_rank_;
};

TEST_P(SameBits, OnAnyNumberOfRanks) {
  for (const int num_ranks : {2, 3, 4, 6, 8}) EXPECT_EQ(train(num_ranks), one_rank_) << num_ranks << " ranks";
}

TEST_P(SameBits, OnSeveralNodesAlsoOfUnequalSize) {
  EXPECT_EQ(train(8, {}, 2), one_rank_);
  EXPECT_EQ(train(8, {}, 3), one_rank_);
}

TEST_P(SameBits, WithDataThatOtherRanksPrepared) {
  EXPECT_EQ(train(2), one_rank_);
  size_t num_shards = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "out/data"))
    num_shards += entry.path().extension() == ".h5" ? 1 : 0;
  EXPECT_EQ(num_shards, 2u);  // those of SetUp were used, one of training and one of evaluation
}

TEST_P(SameBits, WithKeptActivations) { EXPECT_EQ(train(4, {{"gradient_checkpointing", "false"}}), one_rank_); }

TEST_P(SameBits, FastReductionIsNear) {
  const Outcome fast = train(8, {{"reduction", "fast"}}, 3);
  ASSERT_EQ(fast.lines.size(), one_rank_.lines.size());
  const double tolerance = 1e-5;
  for (size_t i = 0; i < fast.lines.size(); ++i) {
    const auto expected = nlohmann::json::parse(one_rank_.lines[i] + (one_rank_.lines[i].ends_with('}') ? "" : "}"));
    const auto got = nlohmann::json::parse(fast.lines[i] + (fast.lines[i].ends_with('}') ? "" : "}"));
    for (const char* key : {"loss", "grad_norm", "eval_loss"})
      if (expected.contains(key)) {
        EXPECT_NEAR(got[key].get<double>() / expected[key].get<double>(), 1, tolerance) << key << " of line " << i + 1;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtype, SameBits, testing::Values("float32", "bfloat16"),
                         [](const auto& given) { return std::string(given.param); });

}  // namespace
}  // namespace plumb::test
