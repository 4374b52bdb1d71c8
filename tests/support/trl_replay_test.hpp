// Base of tests that compare the program with a record of TRL: the record's rows as a file, a run of plumb with its
// settings, and a comparison of every metric that both log.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"
#include "tests/support/reference.hpp"

namespace plumb::test {

/// Relative for values above 1, else absolute.
struct ReplayTolerance {
  double first_loss = 1e-5;
  double loss = 5e-4;
  double other = 1e-3;  // grad_norm and all metrics
};

inline nlohmann::json golden_record(const std::string& name) {
  std::ifstream file(std::string(PLUMB_SOURCE_DIR) + "/tests/golden/" + name + ".json");
  return nlohmann::json::parse(file);
}

class TrlReplayTest : public ProgramTest {
 protected:
  /// The first `count` rows of the reference file data/NAME, after `change(row, number)`.
  template <class Change>
  static std::string reference_rows(const std::string& name, int64_t count, Change change) {
    std::ifstream file(reference_file("data/" + name));
    std::string text, line;
    for (int64_t row = 0; row < count && std::getline(file, line); ++row) {
      nlohmann::json object = nlohmann::json::parse(line);
      change(object, row);
      text += object.dump() + "\n";
    }
    return text;
  }
  static std::string reference_rows(const std::string& name, int64_t count) {
    return reference_rows(name, count, [](nlohmann::json&, int64_t) {});
  }

  /// Trains with the recorded `args` (model, lr, max_length), eight rows per step in file order, and compares each
  /// step.
  void replay(const std::string& stage, int num_ranks, const nlohmann::json& args, const nlohmann::json& steps,
              Options options, const ReplayTolerance& tolerance = {}) {
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
    const std::vector<nlohmann::json> lines = metrics("grad_norm");
    ASSERT_EQ(lines.size(), steps.size());
    for (size_t i = 0; i < lines.size(); ++i) expect_step(lines[i], steps[i], i == 0, tolerance);
  }

 private:
  static void expect_step(const nlohmann::json& line, const nlohmann::json& step, bool is_first,
                          const ReplayTolerance& tolerance) {
    size_t num_compared = 0;
    for (const auto& [key, value] : step.items()) {
      if (!line.contains(key) || key == "epoch" || !value.is_number()) continue;
      ++num_compared;
      const double expected = value.get<double>(), got = line[key].get<double>();
      const double allowed = key != "loss" ? tolerance.other : is_first ? tolerance.first_loss : tolerance.loss;
      EXPECT_NEAR(got, expected, allowed * std::max(1.0, std::abs(expected))) << key << " of step " << step["step"];
    }
    const bool has_model_loss = !step.contains("num_tokens");  // no metrics of TRL
    EXPECT_GE(num_compared, has_model_loss                                                  ? 4u
                            : step.contains("entropy") && !step.contains("rewards/margins") ? 6u
                                                                                            : 8u);
  }
};

}  // namespace plumb::test
