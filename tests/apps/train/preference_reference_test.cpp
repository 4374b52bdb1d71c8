// Reward modeling and DPO against records of TRL in float32: the same pairs give the same losses and metrics, step by
// step, on any number of ranks, for every loss of TRL.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "apps/train/trainer.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/reward.hpp"
#include "partition/sharded_model.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

using nlohmann::json;

constexpr int64_t kPairsPerStep = 8;

void add_document(MicroBatch& batch, const json& prompt, const json& answer, size_t max_length, int64_t row) {
  const size_t begin = batch.token_ids.size();
  for (const json* part : {&prompt, &answer})
    for (const json& id : *part) {
      if (batch.token_ids.size() - begin == max_length) break;
      batch.token_ids.push_back(id.get<int64_t>());
      batch.loss_mask.push_back(part == &answer ? 1 : 0);
    }
  batch.document_begin.push_back(batch.num_tokens());
  batch.row_ids.push_back(row);
}

/// Training from a record: every pair is a micro-batch, with as many accumulation steps as these ranks need for eight
/// pairs.
class Record {
 public:
  Record(const std::string& name, HeadKind head, const Communicator& comm)
      : comm_(comm),
        json_(test::reference_json("golden/" + name + ".json")),
        source_(test::reference_file("models/" + json_["model"].get<std::string>()), {.head = head}),
        accumulation_((kPairsPerStep + comm.size() - 1) / comm.size()),
        model(source_.config(), comm, {.accumulation_steps = accumulation_}) {
    model.load([&](int unit, ElementRange range, std::span<float> out) {
      source_.read_unit_range(model.units()[unit].unit(), range.begin, range.end, out);
    });
  }

  const json& args() const { return json_["args"]; }
  double number(const char* key) const { return args()[key].get<double>(); }

  /// This rank's micro-batches of a step, counted from 0.
  std::vector<MicroBatch> micro_batches(int64_t step) const {
    const auto max_length = args()["max_length"].get<size_t>();
    std::vector<MicroBatch> batches;
    for (int64_t a = 0; a < accumulation_; ++a) {
      const int64_t number = a * comm_.size() + comm_.rank(), row = step * kPairsPerStep + number;
      MicroBatch batch;
      if (number < kPairsPerStep) {
        const json& rows = json_["rows"];
        const json& pair = rows[row % std::ssize(rows)];  // another epoch begins where the rows end
        const json prompt = pair.value("prompt_ids", json::array());
        batch.document_begin = {0};
        for (const char* side : {"chosen_ids", "rejected_ids"})
          add_document(batch, prompt, pair[side], max_length, row);
      } else {
        batch = MicroBatch::empty();
      }
      batch.number = number;
      batches.push_back(std::move(batch));
    }
    return batches;
  }

  /// Trains with the recorded settings, and expects each metric to be within tolerance(name, value).
  void replay(Objective& objective, const std::function<void(std::vector<MicroBatch>&, int64_t step)>& complete) {
    Trainer trainer(
        model, comm_, objective,
        {.adamw = {.weight_decay = number("weight_decay")},
         .schedule = {value_named<ScheduleKind>(args()["scheduler"].get<std::string>(), "lr_scheduler_type"),
                      number("lr"), args()["warmup_steps"].get<int64_t>(), args()["steps"].get<int64_t>()},
         .max_grad_norm = number("clip")});
    int64_t num_tokens = 0;
    for (const json& expected : json_["steps"]) {
      const int64_t step = expected["step"].get<int64_t>();
      std::vector<MicroBatch> batches = micro_batches(step - 1);
      complete(batches, step - 1);
      const StepStats stats = trainer.step(batches);
      num_tokens += stats.num_tokens;
      const auto value = [&](const std::string& key) { return expected[key].get<double>(); };
      EXPECT_NEAR(stats.loss(), value("loss"), (step == 1 ? 1e-5 : 5e-4) * std::max(1.0, std::abs(value("loss"))))
          << "loss of step " << step;
      EXPECT_NEAR(stats.grad_norm, value("grad_norm"), 1e-3 * value("grad_norm")) << "norm of step " << step;
      EXPECT_EQ(stats.learning_rate, value("learning_rate"));
      EXPECT_EQ(static_cast<double>(num_tokens), value("num_tokens"));
      size_t num_compared = 0;
      for (const Metric& metric : stats.metrics) {
        if (!expected.contains(metric.name)) continue;
        ++num_compared;
        EXPECT_NEAR(metric.value, value(metric.name), 1e-3 * std::max(1.0, std::abs(value(metric.name)) / 10))
            << metric.name << " of step " << step;
      }
      EXPECT_GE(num_compared, 6u) << "metrics in both TRL's record and plumb's log";
    }
  }

 private:
  const Communicator& comm_;
  json json_;
  HfModel source_;
  int64_t accumulation_;

 public:
  ShardedModel model;
};

class GoldenReward : public testing::TestWithParam<const char*> {};

TEST_P(GoldenReward, EveryStepAgreesWithTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  at::set_num_threads(1);
  const Communicator comm;
  Record record(GetParam(), HeadKind::kScore, comm);
  const double center = record.number("center");
  RewardObjective objective(record.model.config().output(), center > 0 ? std::optional(center) : std::nullopt,
                            record.model.config().pad_token_id);
  record.replay(objective, [](auto&, int64_t) {});
}

INSTANTIATE_TEST_SUITE_P(Records, GoldenReward, testing::Values("reward", "reward_center", "reward_gemma3_text"),
                         [](const auto& record) { return std::string(record.param); });

class GoldenDpo : public testing::TestWithParam<const char*> {};

TEST_P(GoldenDpo, EveryStepAgreesWithTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  at::set_num_threads(1);
  const Communicator comm;
  Record record(GetParam(), HeadKind::kLanguageModel, comm);
  const std::string loss = record.args()["loss_type"].get<std::string>();
  DpoOptions options;
  options.beta = record.number("beta");
  options.label_smoothing = record.number("label_smoothing");
  options.losses = {{value_named<PreferenceLoss>(loss.empty() ? "sigmoid" : loss, "loss_type"), 1.0}};
  DpoObjective objective(options, record.model.config().output());

  // the metrics of all pairs before training
  std::vector<std::vector<std::vector<SequenceLogps>>> reference;
  for (int64_t step = 0; step < record.args()["steps"].get<int64_t>(); ++step) {
    auto& of_step = reference.emplace_back();
    for (const MicroBatch& batch : record.micro_batches(step)) {
      TokenLossScratch scratch;
      ForwardPass pass = record.model.forward(batch, predicting_rows(batch), Pass::evaluation());
      of_step.push_back(sequence_logps(pass.hidden_TD(), batch, pass.head(), record.model.config().output(), scratch));
      pass.finish();
    }
  }
  record.replay(objective, [&](std::vector<MicroBatch>& batches, int64_t step) {
    for (size_t i = 0; i < batches.size(); ++i) batches[i].reference_logps = reference[step][i];
  });
}

INSTANTIATE_TEST_SUITE_P(Records, GoldenDpo,
                         testing::Values("dpo", "dpo_hinge", "dpo_ipo", "dpo_exo_pair", "dpo_nca_pair", "dpo_robust",
                                         "dpo_bco_pair", "dpo_sppo_hard", "dpo_aot", "dpo_aot_unpaired", "dpo_apo_zero",
                                         "dpo_apo_down", "dpo_discopop", "dpo_sft"),
                         [](const auto& record) { return std::string(record.param); });

}  // namespace
}  // namespace plumb
