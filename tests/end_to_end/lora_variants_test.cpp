// The program against TRL and PEFT: training that continues an adapter gives their losses, metrics and weights, for
// every kind of adapter, in every stage; and a merged adapter computes the same as the adapter on its base.
// tests/golden/make_lora.py made the records and adapters; rows and models are those of the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "io/huggingface/safetensors.hpp"
#include "tests/support/trl_replay_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

std::string adapter_directory(const json& run) {
  return std::string(PLUMB_SOURCE_DIR) + "/tests/golden/adapters/" + run["adapter"].get<std::string>();
}
std::string model_directory(const json& run) { return reference_file("models/" + run["model"].get<std::string>()); }

class LoraVariants : public TrlReplayTest {
 protected:
  /// The exported adapter has these tensors and no others, with these Euclidean norms.
  void expect_norms(const json& norms, double tolerance) const {
    const SafetensorsFile file(directory_ / "out/adapter/adapter_model.safetensors");
    EXPECT_EQ(file.entries().size(), norms.size());
    for (const auto& [name, norm] : norms.items()) {
      const SafetensorsEntry* entry = file.find(name);
      ASSERT_NE(entry, nullptr) << name;
      std::vector<float> values(entry->num_elements);
      file.read(*entry, 0, std::span<float>(values));
      double sum = 0;
      for (const float value : values) sum += static_cast<double>(value) * value;
      EXPECT_NEAR(std::sqrt(sum), norm.get<double>(), tolerance * norm.get<double>()) << name;
    }
  }

  double evaluated_loss(Options options) const {
    options.insert({{"data", "first.jsonl"}, {"max_length", "256"}, {"threads", "1"}});
    const RunResult result = run(0, command_line("evaluate", options));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json line = json::parse(result.out, nullptr, false);
    return line.is_object() ? line["loss"].get<double>() : NAN;
  }
};

struct Run {
  const char* name;
  int num_ranks;
};

/// One test per run of the record.
class LoraRuns : public LoraVariants, public testing::WithParamInterface<Run> {};

TEST_P(LoraRuns, GiveTheNumbersOfTrlAndPeft) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json run = golden_record("lora")["runs"][GetParam().name];
  const std::string stage = run["stage"].get<std::string>();
  directory_.write(stage == "sft" ? "rows.jsonl" : "pairs.jsonl", reference_rows(run["data"], run["rows"]));
  Options options = {{"adapter", adapter_directory(run)}};
  for (const auto& [option, value] : run["options"].items()) options[option] = value.dump();
  ReplayTolerance tolerance;
  if (run.contains("quantize")) {
    options["quantize"] = run["quantize"].get<std::string>();
    tolerance.first_loss = 3e-5;  // bitsandbytes does not round 8-bit scales to the nearest on a CPU
  }
  if (run.contains("reference")) options["ref_model"] = model_directory(run);
  json steps = run["steps"];
  // at the start policy and reference are equal, so rewards/accuracies depend on rounding only
  if (steps[0].value("rewards/margins", 1.0) == 0) steps[0].erase("rewards/accuracies");
  replay(stage, GetParam().num_ranks, run, steps, options, tolerance);
  if (!HasFatalFailure()) expect_norms(run["final_norms"], 5e-4);
}

INSTANTIATE_TEST_SUITE_P(Records, LoraRuns,
                         testing::Values(Run{"sft_patterns", 1}, Run{"sft_dora", 2}, Run{"sft_head", 1},
                                         Run{"sft_embedding", 2}, Run{"sft_upper_layer", 4}, Run{"sft_weight_decay", 2},
                                         Run{"sft_nf4", 1}, Run{"sft_nf4_dora", 2}, Run{"sft_outer_low_rank", 2},
                                         Run{"sft_tied_rows", 2}, Run{"sft_tied_whole", 2}, Run{"dpo_fresh", 1},
                                         Run{"dpo_trained", 2}, Run{"dpo_trained_base_reference", 1},
                                         Run{"dpo_dora", 4}, Run{"reward_score", 2}),
                         [](const auto& record) { return std::string(record.param.name); });

// The loss of the first step, computed without training.
TEST_F(LoraVariants, MergedAndUnmergedAreEqual) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json record = golden_record("lora");
  for (const std::string name : {"sft_patterns", "sft_dora", "sft_head", "sft_embedding", "sft_upper_layer"}) {
    SCOPED_TRACE(name);
    const json& of_run = record["runs"][name];
    const double expected = of_run["steps"][0]["loss"].get<double>();
    directory_.write("first.jsonl", reference_rows(of_run["data"], 8));
    const Options adapted = {{"model", model_directory(of_run)}, {"adapter", adapter_directory(of_run)}};
    EXPECT_NEAR(evaluated_loss(adapted), expected, 1e-5 * expected);
    Options merge = adapted;
    merge.insert({{"output_dir", "merged_" + name}, {"dtype", "float32"}});
    const RunResult merged = run(0, command_line("merge", merge));
    ASSERT_EQ(merged.exit_code, 0) << merged.err;
    EXPECT_NEAR(evaluated_loss({{"model", "merged_" + name}}), expected, 1e-5 * expected);
    EXPECT_GT(std::abs(evaluated_loss({{"model", model_directory(of_run)}}) - expected), 1e-3) << "the base alone";
  }
}

}  // namespace
}  // namespace plumb::test
