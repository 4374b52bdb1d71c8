// Outputs of plumb reward and plumb dpo: the head and its config, start-up checks, stored reference log-probabilities,
// packed rows.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

class PreferenceRun : public ProgramTest {
 protected:
  RunResult train_again(const std::string& stage, int num_ranks, Options options = {}) const {
    options.insert({"overwrite_output_dir", "true"});
    RunResult result = train(stage, num_ranks, options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result;
  }
  std::string first_loss(int num_ranks, const Options& options = {}) const {
    Options all = options;
    all.insert({{"per_device_train_batch_size", "1"}, {"gradient_accumulation_steps", std::to_string(6 / num_ranks)}});
    train_again("reward", num_ranks, all);
    return metrics("loss").at(0)["loss"].dump();
  }
  std::string scores(const std::string& model) const {
    const RunResult result = run(0, {"score", "--model", model, "--data", "rows.jsonl", "--threads", "1"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  }
  std::vector<std::filesystem::path> reference_files() const {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "out/data"))
      if (entry.path().filename().string().starts_with("reference_logps-")) paths.push_back(entry.path());
    return paths;
  }
  static bool computes_reference(const RunResult& result) {
    return result.err.find("reference: log-probabilities of") != std::string::npos;
  }
};

TEST_F(PreferenceRun, ANewHeadComesFromTheSeedAlone) {
  const Options same_order = {{"shuffle", "false"}};
  const std::string one = first_loss(1, same_order);
  EXPECT_EQ(first_loss(3, same_order), one);
  Options other_seed = same_order;
  other_seed["seed"] = "43";
  EXPECT_NE(first_loss(1, other_seed), one);
}

TEST_F(PreferenceRun, AnExportedHeadIsReused) {
  const RunResult first = train_again("reward", 2, {{"output_dir", "first"}, {"learning_rate", "0.01"}});
  EXPECT_NE(first.err.find("the head is initialized from seed 42"), std::string::npos) << first.err;
  const json config = json::parse(directory_.read("first/model/config.json"));
  EXPECT_EQ(config["architectures"], json({"LlamaForSequenceClassification"}));
  EXPECT_EQ(config["id2label"].size(), 1u);
  EXPECT_TRUE(config["pad_token_id"].is_number()) << config;

  // a step with learning rate 0: the head is neither lost nor initialized again, whatever the seed
  const RunResult second = train_again(
      "reward", 3,
      {{"model", "first/model"}, {"output_dir", "second"}, {"learning_rate", "0"}, {"max_steps", "1"}, {"seed", "7"}});
  EXPECT_EQ(second.err.find("the head is initialized from seed"), std::string::npos) << second.err;
  EXPECT_EQ(scores("second/model"), scores("first/model"));
  EXPECT_TRUE(directory_.read("second/model/model.safetensors") == directory_.read("first/model/model.safetensors"));
  EXPECT_EQ(json::parse(directory_.read("second/model/config.json")), config);
}

TEST_F(PreferenceRun, PassesItsStartupChecks) {
  for (const auto& [stage, names] : std::map<std::string, std::vector<std::string>>{
           {"sft", {"each by itself", "accumulation", "EOS"}},
           {"reward", {"each by itself", "accumulation", "padding", "EOS"}},
           {"dpo", {"each by itself", "accumulation", "rewards of zero", "EOS"}}}) {
    train_again(stage, 2, {{"gradient_accumulation_steps", "2"}});
    const json checks = json::parse(directory_.read("out/checks.json"))["checks"];
    ASSERT_EQ(checks.size(), names.size()) << checks;
    for (size_t i = 0; i < names.size(); ++i) {
      EXPECT_NE(checks[i]["name"].get<std::string>().find(names[i]), std::string::npos) << checks[i];
      EXPECT_TRUE(checks[i]["passed"].get<bool>()) << checks[i];
    }
    train_again(stage, 0, {{"startup_checks", "false"}});
    EXPECT_FALSE(exists("out/checks.json"));
  }
}

TEST_F(PreferenceRun, StartupChecksCoverAnyLossAndReference) {
  ASSERT_EQ(train("dpo", 0, {{"output_dir", "other"}, {"learning_rate", "0.01"}}).exit_code, 0);
  const auto starts = [&](int num_ranks, const char* loss) {
    train_again("dpo", num_ranks, {{"loss_type", loss}, {"ref_model", "other/model"}, {"max_steps", "1"}});
  };
  starts(0, "aot");
  starts(3, "aot_unpaired sft");
  starts(3, "bco_pair ipo");
}

TEST_F(PreferenceRun, ReferenceLogProbabilitiesAreComputedOnce) {
  EXPECT_TRUE(computes_reference(train_again("dpo", 1)));
  ASSERT_EQ(reference_files().size(), 1u);
  const std::filesystem::path path = reference_files()[0];
  const auto written = std::filesystem::last_write_time(path);
  const std::string losses = metrics("loss").at(1)["loss"].dump();
  EXPECT_FALSE(computes_reference(train_again("dpo", 1)));
  EXPECT_FALSE(computes_reference(train_again("dpo", 3, {{"beta", "0.2"}})));
  EXPECT_EQ(std::filesystem::last_write_time(path), written);

  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  const RunResult repaired = train_again("dpo", 1);
  EXPECT_TRUE(computes_reference(repaired));
  EXPECT_NE(repaired.err.find("warning: " + std::filesystem::relative(path, directory_.path()).string()),
            std::string::npos)
      << repaired.err;
  EXPECT_EQ(metrics("loss").at(1)["loss"].dump(), losses);
}

TEST_F(PreferenceRun, AnotherReferenceModelIsComputedAgain) {
  ASSERT_EQ(train("dpo", 0, {{"output_dir", "other"}, {"learning_rate", "0.01"}}).exit_code, 0);
  train_again("dpo", 0);
  EXPECT_TRUE(computes_reference(train_again("dpo", 0, {{"ref_model", "other/model"}})));
  EXPECT_GT(std::abs(metrics("loss").at(0)["loss"].get<double>() - std::log(2.0)), 1e-4);
  EXPECT_EQ(reference_files().size(), 2u);
  EXPECT_FALSE(computes_reference(train_again("dpo", 0)));
  EXPECT_NEAR(metrics("loss").at(0)["loss"].get<double>(), std::log(2.0), 1e-6);
}

TEST_F(PreferenceRun, PackedRowsTrainAndLogTheirFill) {
  for (const char* stage : {"sft", "reward", "dpo"}) {
    const RunResult result =
        train_again(stage, 2, {{"packing", "true"}, {"max_length", "64"}, {"learning_rate", "0.001"}});
    ASSERT_EQ(lines_with(result.err, "packing: ").size(), 1u) << result.err;
    EXPECT_NE(lines_with(result.err, "packing: ")[0].find("% full"), std::string::npos);
    const std::vector<json> lines = metrics("loss");
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_LT(lines[1]["loss"], lines[0]["loss"]) << stage;
  }
}

/// With all rows in one step, the loss does not depend on which examples share a row.
TEST_F(PreferenceRun, PackedRowsGiveTheLossOfUnpackedOnes) {
  for (const char* stage : {"sft", "reward", "dpo"}) {
    const Options whole = {{"per_device_train_batch_size", "64"}, {"max_length", "64"}, {"learning_rate", "0.001"}};
    train_again(stage, 0, whole);
    const std::vector<json> expected = metrics("loss");
    Options packing = whole;
    packing["packing"] = "true";
    train_again(stage, 2, packing);
    const std::vector<json> got = metrics("loss");
    ASSERT_EQ(got.size(), 2u);
    for (size_t i = 0; i < got.size(); ++i)
      for (const char* key : {"loss", "grad_norm"})
        EXPECT_NEAR(got[i][key].get<double>() / expected[i][key].get<double>(), 1, 1e-5) << stage << ": " << key;
  }
}

}  // namespace
}  // namespace plumb::test
