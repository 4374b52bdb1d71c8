// The planned memory equals the memory of a run: the peak proportional set size of all ranks, compared with run.json.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/run_program.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

struct Memory {
  nlohmann::json plan;
  double peak_bytes = 0;

  double planned(const char* key) const { return plan[key].get<double>(); }
};

class MemoryPlan : public testing::Test {
 protected:
  void SetUp() override {
    const auto made =
        test::run_plumb(0,
                        {"init", "--output_dir", directory_ / "model", "--hidden_size", "256", "--num_layers", "4",
                         "--num_heads", "4", "--intermediate_size", "768", "--vocab_size", "16000"},
                        {.working_directory = directory_.path()});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    std::ofstream rows(directory_ / "rows.jsonl");
    for (int i = 0; i < 64; ++i)
      rows << R"({"text": ")" << std::string(300, static_cast<char>('a' + i % 26)) << "\"}\n";
  }

  /// Two steps of fine-tuning, with these options.
  Memory train(int num_ranks, const std::vector<std::string>& options) const {
    const std::string run = directory_ / "run";
    std::vector<std::string> arguments = {"sft",
                                          "--model",
                                          directory_ / "model",
                                          "--data",
                                          directory_ / "rows.jsonl",
                                          "--output_dir",
                                          run,
                                          "--max_length",
                                          "256",
                                          "--per_device_train_batch_size",
                                          "1",
                                          "--max_steps",
                                          "2",
                                          "--logging_steps",
                                          "1",
                                          "--threads",
                                          "1"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const auto result =
        test::run_plumb(num_ranks, arguments, {.working_directory = directory_.path(), .timeout_seconds = 200});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    Memory memory;
    memory.plan = nlohmann::json::parse(std::ifstream(run + "/run.json"))["plan"];
    std::ifstream metrics(run + "/metrics.jsonl");
    for (std::string line; std::getline(metrics, line);)
      memory.peak_bytes = std::max(memory.peak_bytes, nlohmann::json::parse(line)["memory_bytes"].get<double>());
    std::filesystem::remove_all(run);
    return memory;
  }

  /// 16 bytes per trained parameter over all ranks: master, gradient and two moments.
  static void expect_16_bytes_per_parameter(const Memory& memory, int num_ranks) {
    const double state =
        memory.planned("parameter_bytes") + memory.planned("moment_bytes") + memory.planned("gradient_bytes");
    EXPECT_NEAR(state * num_ranks / (16 * memory.planned("num_trained_parameters")), 1.0, 0.03);
  }

  const TemporaryDirectory directory_;
};

TEST_F(MemoryPlan, IsWithinATenthOfWhatARunTakes) {
  for (const int num_ranks : {1, 2, 4, 8}) {
    for (const char* dtype : {"float32", "bfloat16"}) {
      const char* recomputes = num_ranks % 4 == 0 ? "false" : "true";
      const Memory memory = train(num_ranks, {"--dtype", dtype, "--gradient_checkpointing", recomputes});
      EXPECT_NEAR(memory.peak_bytes / memory.planned("total_bytes"), 1.0, 0.1) << num_ranks << " ranks, " << dtype;
      expect_16_bytes_per_parameter(memory, num_ranks);
    }
  }
}

TEST_F(MemoryPlan, IsWithinATenthOfWhatAnAdapterTakes) {
  double plain_base_bytes = 0;
  for (const int num_ranks : {1, 2, 4}) {
    for (const char* quantize : {"none", "nf4"}) {
      const char* recomputes = num_ranks % 4 == 0 ? "false" : "true";
      const Memory memory = train(num_ranks, {"--dtype", "bfloat16", "--lora_r", "8", "--quantize", quantize,
                                              "--gradient_checkpointing", recomputes});
      EXPECT_NEAR(memory.peak_bytes / memory.planned("total_bytes"), 1.0, 0.1) << num_ranks << " ranks, " << quantize;
      expect_16_bytes_per_parameter(memory, num_ranks);
      const double base_bytes = memory.planned("base_bytes_per_node");
      if (quantize == std::string("none")) plain_base_bytes = base_bytes;
      // only the blocks are in 4 bits: less than a third of this base
      if (quantize == std::string("nf4")) {
        EXPECT_LT(base_bytes, 0.85 * plain_base_bytes);
      }
    }
  }
}

}  // namespace
}  // namespace plumb
