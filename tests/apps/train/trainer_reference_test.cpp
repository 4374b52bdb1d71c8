// The engine against records of TRL in float32: the same rows give the same losses, step by step, on any number of
// ranks.
#include "apps/train/trainer.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "io/huggingface/hf_model.hpp"
#include "lib/objective/sft.hpp"
#include "partition/sharded_model.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

/// Row i of a record as one document; past the end of a step an empty document with one untrained token.
MicroBatch micro_batch(const nlohmann::json& rows, int64_t first, int64_t last) {
  MicroBatch batch;
  batch.document_begin.push_back(0);
  for (int64_t i = first; i < last; ++i) {
    const nlohmann::json& row = rows[i];
    for (const auto& id : row["input_ids"]) batch.token_ids.push_back(id.get<int64_t>());
    for (const auto& label : row["labels"]) batch.loss_mask.push_back(label.get<int64_t>() == -100 ? 0 : 1);
    batch.document_begin.push_back(batch.num_tokens());
  }
  return first < last ? batch : MicroBatch::empty();
}

constexpr int64_t kRowsPerStep = 8;

/// Every row is a micro-batch of its own: as many accumulation steps as these ranks need for eight rows.
int64_t accumulation_steps(const Communicator& comm) { return (kRowsPerStep + comm.size() - 1) / comm.size(); }

/// This rank's micro-batches of a step, counted from 1.
std::vector<MicroBatch> batches_of_step(const nlohmann::json& rows, int64_t step, const Communicator& comm) {
  std::vector<MicroBatch> batches;
  for (int64_t a = 0; a < accumulation_steps(comm); ++a) {
    const int64_t row = a * comm.size() + comm.rank(), base = (step - 1) * kRowsPerStep;
    batches.push_back(micro_batch(rows, base + row, row < kRowsPerStep ? base + row + 1 : 0));
  }
  return batches;
}

void load(ShardedModel& model, const HfModel& source) {
  model.load([&](int unit, ElementRange range, std::span<float> out) {
    source.read_unit_range(model.units()[unit].unit(), range.begin, range.end, out);
  });
}

/// Over several micro-batches TRL logs the plain mean of their entropies and accuracies, plumb a mean weighted by
/// tokens. Collective: computes TRL's mean, from the model before the step.
struct MicroBatchMeans {
  double entropy = 0;
  double mean_token_accuracy = 0;
};
MicroBatchMeans mean_over_micro_batches(ShardedModel& model, const Communicator& comm, const nlohmann::json& rows,
                                        int64_t first, int64_t count, int64_t rows_each) {
  MicroBatchMeans mean;
  SftObjective objective(model.config().output(), TokenLoss::kNll);
  for (int64_t i = 0; i < count; ++i) {
    const auto start = [&]() -> NextMicroBatches {
      return [&]() -> std::vector<MicroBatch> {
        const int64_t begin = first + i * rows_each;
        return {comm.rank() == 0 ? micro_batch(rows, begin, begin + rows_each) : micro_batch(rows, 0, 0)};
      };
    };
    const EvaluationStats stats = evaluate_model(model, comm, objective, 1, start);
    mean.entropy += stats.metric("entropy") / static_cast<double>(count);
    mean.mean_token_accuracy += stats.metric("mean_token_accuracy") / static_cast<double>(count);
  }
  return mean;
}

class GoldenSft : public testing::TestWithParam<const char*> {};

TEST_P(GoldenSft, EveryStepAgreesWithTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  at::set_num_threads(1);
  const Communicator comm;
  const nlohmann::json golden = test::reference_json(std::string("golden/") + GetParam() + ".json");
  const nlohmann::json& args = golden["args"];
  const HfModel source(test::reference_file("models/" + golden["model"].get<std::string>()));
  const int64_t accumulation = accumulation_steps(comm);
  const auto coefficient = args.find("router_aux_loss_coef");
  const bool has_own = coefficient != args.end() && coefficient->is_number();
  ShardedModel model(
      source.config(), comm,
      {.accumulation_steps = accumulation,
       .router_loss_coefficient = has_own ? coefficient->get<double>() : source.config().mixture.loss_coefficient});
  load(model, source);
  const auto text = [&](const char* key) { return args[key].get<std::string>(); };
  SftObjective objective(source.config().output(), text("loss_type") == "dft" ? TokenLoss::kDft : TokenLoss::kNll);
  Trainer trainer(
      model, comm, objective,
      {.adamw = {.weight_decay = args["weight_decay"].get<double>()},
       .schedule = {value_named<ScheduleKind>(text("scheduler"), "lr_scheduler_type"), args["lr"].get<double>(),
                    args["warmup_steps"].get<int64_t>(), args["steps"].get<int64_t>()},
       .max_grad_norm = args["clip"].get<double>()});
  int64_t num_tokens = 0;
  for (const nlohmann::json& expected : golden["steps"]) {
    const int64_t step = expected["step"].get<int64_t>();
    const std::vector<MicroBatch> batches = batches_of_step(golden["rows"], step, comm);
    const int64_t trl_batches = args["accum"].get<int64_t>();
    const MicroBatchMeans metrics = mean_over_micro_batches(model, comm, golden["rows"], (step - 1) * kRowsPerStep,
                                                            trl_batches, kRowsPerStep / trl_batches);
    const StepStats stats = trainer.step(batches);
    num_tokens += stats.num_tokens;
    const auto value = [&](const char* key) { return expected[key].get<double>(); };
    const auto near = [&](const char* key, double got, double tolerance) {
      EXPECT_NEAR(got, value(key), tolerance * std::abs(value(key))) << key << " of step " << step;
    };
    near("loss", stats.loss(), step == 1 ? 1e-5 : 2e-4);
    near("grad_norm", stats.grad_norm, 1e-3);
    near("entropy", metrics.entropy, 1e-3);
    near("mean_token_accuracy", metrics.mean_token_accuracy, 1e-3);
    if (trl_batches == 1) {
      near("entropy", stats.metric("entropy"), 1e-3);
      near("mean_token_accuracy", stats.metric("mean_token_accuracy"), 1e-3);
    }
    if (expected.contains("aux_loss")) near("aux_loss", stats.metric("aux_loss"), step == 1 ? 1e-5 : 2e-4);
    EXPECT_EQ(stats.learning_rate, value("learning_rate"));
    EXPECT_EQ(static_cast<double>(num_tokens), value("num_tokens"));
  }
}

TEST(GoldenPadding, AsAnInputItGivesTheEmbeddingNoGradient) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  at::set_num_threads(1);
  const Communicator comm;
  const nlohmann::json golden = test::reference_json("golden/sft_llama3.json");
  const HfModel source(test::reference_file("models/tiny-llama3"));
  // the most frequent token of the rows as pad_token_id; transformers 5.23 and torch 2.15 give these norms
  for (const auto& [token, norm] : {std::pair(-1, 1.9990256), std::pair(410, 1.9798232)}) {
    ModelConfig config = source.config();
    config.frozen_input_token = token;
    ShardedModel model(config, comm, {.accumulation_steps = accumulation_steps(comm)});
    load(model, source);
    SftObjective objective(config.output(), TokenLoss::kNll);
    Trainer trainer(model, comm, objective, {.adamw = {}, .schedule = {}, .max_grad_norm = 1});
    EXPECT_NEAR(trainer.step(batches_of_step(golden["rows"], 1, comm)).grad_norm, norm, 1e-5) << token;
  }
}

INSTANTIATE_TEST_SUITE_P(Records, GoldenSft,
                         testing::Values("sft", "sft_text", "sft_dft", "sft_accum2_cosine", "sft_llama3", "sft_mistral",
                                         "sft_ministral", "sft_qwen2", "sft_qwen3", "sft_gemma2", "sft_gemma3_text",
                                         "sft_phi3", "sft_olmo2", "sft_olmo3", "sft_smollm3", "sft_granite",
                                         "sft_cohere2", "sft_glm4", "sft_starcoder2", "sft_llama-bias",
                                         "sft_yarn-qwen2", "sft_dynamic-llama", "sft_mixtral", "sft_qwen2_moe",
                                         "sft_qwen3_moe", "sft_qwen3_moe_aux", "sft_gpt_oss"),
                         [](const auto& record) {
                           std::string name = record.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace plumb
