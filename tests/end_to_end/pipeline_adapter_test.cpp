// plumb pipeline with adapters: each stage exports its adapter and the merged model, from which the next stage starts.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/pipeline_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

class PipelineAdapter : public PipelineTest {
 protected:
  /// A few steps of each stage.
  void write_adapter_ini(const std::string& common, const std::string& dpo = "", const std::string& sft = "") const {
    directory_.write("align.ini",
                     "model = model\noutput_dir = run\nthreads = 1\nper_device_train_batch_size = 2\nmax_steps = 3\n"
                     "learning_rate = 0.01\n" +
                         common + "[sft]\ndata = rows.jsonl\n" + sft + "[reward]\ndata = pairs.jsonl\n" +
                         "[dpo]\ndata = pairs.jsonl\neval_data = held_out.jsonl\nmax_completion_length = 4\n" + dpo);
  }
  const std::string kLora = "lora_r = 4\n";

  void SetUp() override {
    PipelineTest::SetUp();
    directory_.write("held_out.jsonl", pairs(3));
  }
};

TEST_F(PipelineAdapter, HandsMergedModelsFromStageToStage) {
  for (const std::string& common : {kLora, kLora + "quantize = nf4\ndtype = bfloat16\n"}) {
    SCOPED_TRACE(common);
    std::filesystem::remove_all(directory_ / "run");
    write_adapter_ini(common);
    expect_done(pipeline(2), kAll);
    for (const std::string& stage : kAll) {
      EXPECT_TRUE(exists("run/" + stage + "/adapter/adapter_model.safetensors")) << stage;
      EXPECT_TRUE(exists("run/" + stage + "/model/model.safetensors")) << stage;
      const json config = json::parse(directory_.read("run/" + stage + "/model/config.json"));
      EXPECT_FALSE(config.contains("quantization_config")) << stage;
    }
    EXPECT_EQ(json::parse(directory_.read("run/dpo/run.json"))["options"]["model"], "run/sft/model");
    EXPECT_NE(directory_.read("run/dpo/notes.json").find("win rate of DPO over its start"), std::string::npos);
    const auto before = outcomes();
    expect_done(pipeline(1), {});
    EXPECT_EQ(outcomes(), before);
  }
}

TEST_F(PipelineAdapter, RerunsStagesAffectedByAnEditedAdapter) {
  write_adapter_ini(kLora);
  expect_done(pipeline(1), kAll);
  write_adapter_ini(kLora, "lora_alpha = 8\n");
  const RunResult alpha = pipeline(1);
  expect_done(alpha, {"dpo"});
  EXPECT_EQ(lines_with(alpha.err, "dpo runs: lora_alpha: 32, now 8").size(), 1u) << alpha.err;
  write_adapter_ini(kLora, "lora_alpha = 8\n", "lora_target_modules = all-linear\n");
  const RunResult targets = pipeline(1);
  expect_done(targets, kAll);
  EXPECT_EQ(lines_with(targets.err, "sft runs: lora_target_modules").size(), 1u) << targets.err;
  EXPECT_EQ(lines_with(targets.err, "dpo runs: contents of model changed").size(), 1u) << targets.err;
}

TEST_F(PipelineAdapter, ContinuedAdapterBelongsToTheFirstStage) {
  ASSERT_EQ(sft(0, {{"lora_r", "4"}, {"output_dir", "before"}}).exit_code, 0);
  write_adapter_ini("adapter = before/adapter\n");
  expect_refused(pipeline(0), 2, {"align.ini", "before/adapter", "[sft]", "merged model"});
  EXPECT_FALSE(exists("run"));
  write_adapter_ini(kLora, "", "lora_r = 0\nadapter = before/adapter\n");
  expect_done(pipeline(1), kAll);
}

}  // namespace
}  // namespace plumb::test
