// The first step of TRL's DPO and reward runs: a forward pass of its first eight rows, and all its metrics.
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "io/safetensors.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/reward.hpp"
#include "tests/support/loaded_model.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

constexpr size_t kBatch = 8, kMaxLength = 384;

using Ids = std::vector<int64_t>;

void expect_first_step(const Objective& objective, const ObjectiveSums& sums, const nlohmann::json& record) {
  const nlohmann::json& step = record["steps"][0];
  EXPECT_EQ(static_cast<double>(sums.num_tokens), step["num_tokens"].get<double>());
  for (const Metric& metric : objective.metrics(sums, false)) {
    const double expected = step.at(metric.name).get<double>();
    // both sides are float32
    EXPECT_NEAR(metric.value, expected, 1e-5 * std::max(1.0, std::abs(expected))) << metric.name;
  }
}

TEST(DpoReference, FirstStepIsThatOfTrl) {
  PLUMB_NEEDS_REFERENCE();
  const LoadedModel model(test::reference_file("models/stories260K"), at::kFloat);
  const double norm_epsilon = model.config.rms_norm_eps;
  for (const char* loss : {"", "_hinge", "_ipo", "_exo_pair", "_nca_pair", "_robust", "_bco_pair", "_sppo_hard", "_aot",
                           "_aot_unpaired", "_apo_zero", "_apo_down", "_discopop", "_sft"}) {
    SCOPED_TRACE(loss);
    const nlohmann::json record = test::reference_json("golden/dpo" + std::string(loss) + ".json");
    std::vector<Ids> documents;
    std::vector<uint8_t> loss_mask;
    for (size_t row = 0; row < kBatch; ++row)
      for (const char* answer : {"chosen_ids", "rejected_ids"}) {
        Ids ids = record["rows"][row]["prompt_ids"].get<Ids>();
        loss_mask.insert(loss_mask.end(), std::min(ids.size(), kMaxLength), 0);
        const size_t prompt = ids.size();
        for (const int64_t id : record["rows"][row][answer]) ids.push_back(id);
        ids.resize(std::min(ids.size(), kMaxLength));
        if (ids.size() > prompt) loss_mask.insert(loss_mask.end(), ids.size() - prompt, 1);
        documents.push_back(ids);
      }
    MicroBatch batch = pack(documents);
    batch.loss_mask = loss_mask;
    const at::Tensor hidden_TD = hidden_states(model, batch);
    TokenLossScratch scratch;
    batch.reference_logps = sequence_logps(hidden_TD, batch, model.head(), norm_epsilon, scratch);
    DpoOptions options;
    options.losses = {{preference_loss_named(*loss ? loss + 1 : "sigmoid"), 1}};
    options.label_smoothing = record["args"]["label_smoothing"].get<double>();
    DpoObjective objective(options, norm_epsilon);
    if (objective.needs_survey()) objective.take_surveys({objective.survey(hidden_TD, batch, model.head())});
    ObjectiveSums sums = objective.no_sums();
    objective.apply(hidden_TD, batch, model.head(), nullptr, {}, sums);
    expect_first_step(objective, sums, record);
  }
}

TEST(RewardReference, FirstStepIsThatOfTrl) {
  PLUMB_NEEDS_REFERENCE();
  const LoadedModel model(test::reference_file("models/stories260K"), at::kFloat);
  const SafetensorsFile file(test::reference_file("models/stories260K-rm/model.safetensors"));
  HeadTensors head = model.head();
  head.head_VD = at::empty({1, model.config.hidden_size}, at::TensorOptions().dtype(at::kFloat));
  file.read(file.at("score.weight"), 0,
            {head.head_VD.data_ptr<float>(), static_cast<size_t>(model.config.hidden_size)});
  const nlohmann::json config = test::reference_json("models/stories260K-rm/config.json");
  for (const char* variant : {"", "_center"}) {
    SCOPED_TRACE(variant);
    const nlohmann::json record = test::reference_json("golden/reward" + std::string(variant) + ".json");
    std::vector<Ids> documents;
    for (size_t row = 0; row < kBatch; ++row)
      for (const char* answer : {"chosen_ids", "rejected_ids"})
        documents.push_back(record["rows"][row][answer].get<Ids>());
    const MicroBatch batch = pack(documents);
    RewardObjective objective(model.config.rms_norm_eps, record["args"]["center"].get<double>(),
                              config["pad_token_id"].get<int64_t>());
    ObjectiveSums sums = objective.no_sums();
    objective.apply(hidden_states(model, batch), batch, head, nullptr, objective.weigh(batch), sums);
    expect_first_step(objective, sums, record);
  }
}

}  // namespace
}  // namespace plumb
