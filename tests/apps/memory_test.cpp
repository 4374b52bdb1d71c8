// The plan is what a run then takes: the proportional set of all ranks at its peak, against run.json.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/io/temporary_directory.hpp"
#include "tests/support/run_program.hpp"

namespace plumb {
namespace {

struct Memory {
  nlohmann::json plan;
  double peak_bytes = 0;
};

Memory train(const std::string& directory, int num_ranks, const std::string& dtype, bool keeps_activations) {
  const std::string run = directory + "/run" + std::to_string(num_ranks) + dtype + (keeps_activations ? "k" : "r");
  const auto result = test::run_plumb(num_ranks,
                                      {"sft",
                                       "--model",
                                       directory + "/model",
                                       "--data",
                                       directory + "/rows.jsonl",
                                       "--output_dir",
                                       run,
                                       "--max_length",
                                       "256",
                                       "--per_device_train_batch_size",
                                       "1",
                                       "--max_steps",
                                       "4",
                                       "--logging_steps",
                                       "1",
                                       "--threads",
                                       "1",
                                       "--dtype",
                                       dtype,
                                       "--gradient_checkpointing",
                                       keeps_activations ? "false" : "true"},
                                      {.working_directory = directory, .timeout_seconds = 200});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  Memory memory;
  memory.plan = nlohmann::json::parse(std::ifstream(run + "/run.json"))["plan"];
  std::ifstream metrics(run + "/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);)
    memory.peak_bytes = std::max(memory.peak_bytes, nlohmann::json::parse(line)["memory_bytes"].get<double>());
  std::filesystem::remove_all(run);
  return memory;
}

TEST(MemoryPlan, IsWithinATenthOfWhatARunTakes) {
  const TemporaryDirectory directory;
  const std::string path = directory.path();
  ASSERT_EQ(test::run_plumb(0,
                            {"init", "--output_dir", path + "/model", "--hidden_size", "256", "--num_layers", "4",
                             "--num_heads", "4", "--intermediate_size", "768", "--vocab_size", "16000"},
                            {.working_directory = path})
                .exit_code,
            0);
  std::ofstream rows(path + "/rows.jsonl");
  for (int i = 0; i < 64; ++i) rows << R"({"text": ")" << std::string(300, static_cast<char>('a' + i % 26)) << "\"}\n";
  rows.close();
  for (int num_ranks : {1, 2, 4, 8}) {
    for (const char* dtype : {"float32", "bfloat16"}) {
      const Memory memory = train(path, num_ranks, dtype, num_ranks % 4 == 0);
      const double planned = memory.plan["total_bytes"].get<double>();
      EXPECT_NEAR(memory.peak_bytes / planned, 1.0, 0.1) << num_ranks << " ranks, " << dtype;
      // 16 bytes per parameter over all ranks: master, gradient and two moments
      const double state = memory.plan["parameter_bytes"].get<double>() + memory.plan["moment_bytes"].get<double>() +
                           memory.plan["gradient_bytes"].get<double>();
      EXPECT_NEAR(state * num_ranks / (16 * memory.plan["num_parameters"].get<double>()), 1.0, 0.03);
    }
  }
}

}  // namespace
}  // namespace plumb
