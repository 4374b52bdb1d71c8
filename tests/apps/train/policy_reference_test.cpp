// GRPO and RLOO against records of TRL in float32, from recorded rollouts to the metrics: whole runs of the stage in
// this process. One rank has TRL's micro-batches and every metric; several ranks have one completion each, which
// changes means over micro-batches, but neither losses nor gradients.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "apps/options/train_options.hpp"
#include "apps/run/data_files.hpp"
#include "apps/train/stage.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/shared_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;

/// A record's rounds in the format of --rollouts.
std::string rollouts_of(const json& record) {
  std::string text;
  const size_t num_generations = record["config"]["num_generations"].get<size_t>();
  for (size_t round = 0; round < record["rounds"].size(); ++round) {
    const json& of_round = record["rounds"][round];
    for (size_t i = 0; i < of_round["completion_ids"].size(); ++i)
      text += json{{"round", round + 1},
                   {"row", of_round["row"][i / num_generations]},
                   {"prompt_ids", of_round["prompt_ids"][i / num_generations]},
                   {"completion_ids", of_round["completion_ids"][i]},
                   {"rewards", of_round["rewards"][i]}}
                  .dump() +
              "\n";
  }
  return text;
}

/// The settings of a run on `num_ranks` ranks: those of TRL's configuration that plumb has.
Settings settings_of(const json& record, const std::string& directory, int num_ranks, bool has_trl_batches) {
  const json &args = record["args"], &config = record["config"];
  const int64_t accumulation = args["accum"].get<int64_t>(), batch = args["batch"].get<int64_t>();
  const int64_t windows = config["steps_per_generation"].get<int64_t>() / accumulation;
  const int64_t rows_each = has_trl_batches ? batch : 1;
  const int64_t slots = num_ranks * rows_each;
  const int64_t accumulation_here = (batch * accumulation + slots - 1) / slots;
  Settings settings;
  const auto set = [&](const std::string& name, const std::string& value) { settings.push_back({name, value}); };
  set("model", test::reference_file("models/" + record["model"].get<std::string>()));
  if (const std::string adapter = record["adapter"]; !adapter.empty())
    set("adapter", test::reference_file("models/" + adapter));
  set("rollouts", directory + "/rollouts.jsonl");
  set("output_dir", directory + "/run");
  set("max_steps", args["steps"].dump());
  set("learning_rate", args["lr"].dump());
  set("lr_scheduler_type", args["scheduler"].get<std::string>());
  set("warmup_steps", args["warmup_steps"].dump());
  set("weight_decay", args["weight_decay"].dump());
  set("max_grad_norm", args["clip"].dump());
  set("per_device_train_batch_size", std::to_string(rows_each));
  set("gradient_accumulation_steps", std::to_string(accumulation_here));
  set("steps_per_generation", std::to_string(windows * accumulation_here));
  set("logging_steps", "1");
  set("save_steps", "0");
  set("threads", "1");
  const Stage stage = value_named<Stage>(args["algo"].get<std::string>(), "algo");
  for (const auto& [name, value] : config.items()) {
    if (name == "generation_batch_size" || has_setting(settings, name) || value.is_null() ||
        !find_option(training_options(stage), name))
      continue;
    for (const json& item : value.is_array() ? value : json::array({value}))
      set(name, item.is_string() ? item.get<std::string>() : item.dump());
  }
  return settings;
}

std::vector<json> read_lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<json> lines;
  for (std::string line; std::getline(file, line);)
    if (json object = json::parse(line); object.contains("grad_norm")) lines.push_back(std::move(object));
  return lines;
}

struct Record {
  const char* name;
  double later = 1e-4;  // tolerance of losses and norms after the first step; its exponentials amplify TRL's rounding
  bool depends_on_batches = false;
  bool is_for_many_ranks = false;  // the others are for up to 3
};

class GoldenPolicy : public testing::TestWithParam<Record> {
 protected:
  /// has_means: TRL's means over micro-batches are those over tokens.
  static void expect_step(const json& line, const json& expected, const Record& record, bool is_first, bool has_means,
                          bool has_trl_batches) {
    const auto number = [&](const json& object, const char* key) { return object[key].get<double>(); };
    const std::string where = " of step " + expected["step"].dump();
    const double loss = number(expected, "loss"), norm = number(expected, "grad_norm");
    EXPECT_NEAR(number(line, "loss"), loss, std::max(1e-6, record.later * std::abs(loss))) << "loss" << where;
    EXPECT_NEAR(number(line, "grad_norm"), norm, (is_first ? 1e-5 : record.later) * norm) << "grad_norm" << where;
    if (!has_trl_batches) return;
    size_t num_compared = 0;
    for (const auto& [key, value] : expected.items()) {
      if (key == "loss" || key == "grad_norm" || key == "epoch" || !value.is_number()) continue;
      std::string name = key;
      if (name.starts_with("rewards/")) continue;  // its functions have other names here
      if (!has_means && (name == "entropy" || name == "kl" || name.starts_with("clip_ratio/"))) continue;
      if (!line.contains(name)) {
        ADD_FAILURE() << key << where << " is not logged";
        continue;
      }
      ++num_compared;
      EXPECT_NEAR(number(line, name.c_str()), value.get<double>(), 1e-3 * std::max(1.0, std::abs(value.get<double>())))
          << key << where;
    }
    EXPECT_GE(num_compared, 1u);
  }
};

TEST_P(GoldenPolicy, EveryStepAgreesWithTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Communicator comm;
  const bool has_trl_batches = comm.size() == 1;
  if (GetParam().depends_on_batches && !has_trl_batches) return;
  // by hand: PLUMB_ALL_RECORDS=1 mpirun -n 8 build/tests/test_apps.train.policy_reference
  if (comm.size() > 3 && !GetParam().is_for_many_ranks && !std::getenv("PLUMB_ALL_RECORDS")) return;
  const json record = test::reference_json("golden/" + std::string(GetParam().name) + ".json");
  const SharedDirectory directory(comm);
  directory.write("rollouts.jsonl", rollouts_of(record));
  const Stage stage = value_named<Stage>(record["args"]["algo"].get<std::string>(), "algo");
  const TrainOptions options =
      parse_train_options(stage, settings_of(record, directory.path(), comm.size(), has_trl_batches));
  validate(options);
  train_stage(comm, with_files(comm, options), /*is_watched=*/true);
  if (comm.rank() != 0) return;
  const std::vector<json> lines = read_lines(directory / "run/metrics.jsonl");
  ASSERT_EQ(lines.size(), record["steps"].size());
  for (size_t i = 0; i < lines.size(); ++i)
    expect_step(lines[i], record["steps"][i], GetParam(), i == 0, record["args"]["accum"] == 1, has_trl_batches);
}

INSTANTIATE_TEST_SUITE_P(
    Records, GoldenPolicy,
    testing::Values(Record{"grpo", 1e-4, false, true}, Record{"grpo_beta"}, Record{"grpo_beta_k3"}, Record{"grpo_dr"},
                    Record{"grpo_bnpo", 1e-4, true}, Record{"grpo_accum"}, Record{"grpo_masked"},
                    Record{"grpo_temperature"}, Record{"grpo_rewards"}, Record{"grpo_gdpo"}, Record{"grpo_model"},
                    Record{"grpo_off", 1e-4, false, true}, Record{"grpo_off_accum"}, Record{"grpo_delta"},
                    Record{"grpo_gspo"}, Record{"grpo_luspo"}, Record{"grpo_cispo", 3e-4}, Record{"grpo_sapo"},
                    Record{"grpo_vespo", 5e-3}, Record{"grpo_mask_off_policy"}, Record{"grpo_entropy", 1e-4, true},
                    Record{"grpo_sync"}, Record{"grpo_lora", 1e-4, false, true}, Record{"rloo"}, Record{"rloo_norm"},
                    Record{"rloo_off", 4e-4}, Record{"rloo_masked", 1e-4, false, true}),
    [](const auto& record) { return std::string(record.param.name); });

/// Completions of the model itself, rewarded by their share of the letter e: the optimum is 10.
TEST(LetterTask, IsLearnedInAsManyStepsAsByTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Communicator comm;
  constexpr int64_t kMicroBatches = 8, kSteps = 13;
  if (kMicroBatches % comm.size() != 0) return;
  const SharedDirectory directory(comm);
  const Settings settings = {{"model", test::reference_file("models/stories260K")},
                             {"data", test::reference_file("data/sft_alpaca.jsonl")},
                             {"max_length", "129"},
                             {"output_dir", directory / "run"},
                             {"reward_funcs", "share"},
                             {"count_text", "e"},
                             {"reward_weights", "10"},
                             {"num_generations", "8"},
                             {"max_completion_length", "24"},
                             {"per_device_train_batch_size", "4"},
                             {"gradient_accumulation_steps", std::to_string(kMicroBatches / comm.size())},
                             {"max_steps", std::to_string(kSteps)},
                             {"learning_rate", "1e-3"},
                             {"lr_scheduler_type", "constant"},
                             {"logging_steps", "1"},
                             {"save_steps", "0"},
                             {"threads", "1"}};
  const TrainOptions options = parse_train_options(Stage::kGrpo, settings);
  validate(options);
  train_stage(comm, with_files(comm, options), /*is_watched=*/true);
  if (comm.rank() != 0) return;
  const std::vector<json> lines = read_lines(directory / "run/metrics.jsonl");
  const json steps = test::reference_json("golden/grpo_curve.json")["steps"];
  const auto gain = [](const auto& of_steps) {
    return of_steps[kSteps - 1]["reward"].template get<double>() - of_steps[0]["reward"].template get<double>();
  };
  EXPECT_GT(gain(lines), 0.8 * gain(steps));
}

}  // namespace
}  // namespace plumb
