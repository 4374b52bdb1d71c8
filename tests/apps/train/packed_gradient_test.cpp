// Packing changes only which texts share a row: loss, gradient norm and gradients of packed and unpacked rows agree up
// to the order of float32 sums. Packed micro-batches hold several examples, unpacked ones a single one.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/train/stage_data.hpp"
#include "apps/train/trainer.hpp"
#include "io/dataset/packing_file.hpp"
#include "lib/base/random.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/reward.hpp"
#include "lib/objective/sft.hpp"
#include "partition/sharded_model.hpp"
#include "tests/io/dataset/token_dataset.hpp"
#include "tests/support/shared_directory.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

constexpr double kTolerance = 1e-5;
constexpr double kNormEpsilon = 1e-6;
constexpr OutputConfig kOutput = {.norm = {.epsilon = kNormEpsilon}, .logits = {}};
constexpr int64_t kExamples = 33;
constexpr int64_t kCapacityTokens = 40;

struct Case {
  const char* name;
  std::string_view kind;
  bool has_margins;
  std::function<std::unique_ptr<Objective>()> make_objective;
};

void PrintTo(const Case& given, std::ostream* out) { *out << given.name; }

std::unique_ptr<Objective> make_dpo(const std::vector<PreferenceLoss>& losses, std::optional<double> ld_alpha = {},
                                    bool uses_weighting = false) {
  DpoOptions options;
  options.losses = weighted_losses(losses, {});
  options.ld_alpha = ld_alpha;
  options.uses_weighting = uses_weighting;
  return std::make_unique<DpoObjective>(options, kOutput);
}

std::unique_ptr<Objective> make_reward(std::optional<double> center) {
  return std::make_unique<RewardObjective>(kOutput, center, std::nullopt);
}

const Case kCases[] = {
    {"sft", kSftKind, false, [] { return std::make_unique<SftObjective>(kOutput, TokenLoss::kNll); }},
    {"sft_dft", kSftKind, false, [] { return std::make_unique<SftObjective>(kOutput, TokenLoss::kDft); }},
    {"reward", kPairsKind, false, [] { return make_reward(std::nullopt); }},
    {"reward_with_margins_and_centre", kPairsKind, true, [] { return make_reward(0.01); }},
    {"dpo", kPairsKind, false, [] { return make_dpo({PreferenceLoss::kSigmoid}); }},
    {"dpo_of_all_pairs", kPairsKind, false,
     [] {
       return make_dpo({PreferenceLoss::kAot, PreferenceLoss::kBcoPair, PreferenceLoss::kSft});
     }},
    {"dpo_by_length", kPairsKind, false,
     [] {
       return make_dpo({PreferenceLoss::kIpo, PreferenceLoss::kSigmoidNorm}, 0.5, true);
     }},
};

/// Loss, norm and this rank's gradients, in one row.
struct Outcome {
  double loss = 0, norm = 0;
  std::vector<float> gradients;
};

class PackedGradient : public testing::TestWithParam<Case> {
 protected:
  static constexpr const char* kReferenceModel = "made";

  void SetUp() override {
    if (GetParam().kind == kSftKind) {
      comm_.run_on_rank0([&] { write_made_dataset(directory_.path(), {20, kExamples - 20}); });
    } else {
      comm_.run_on_rank0([&] {
        write_made_pair_dataset(directory_.path(), {20, kExamples - 20}, GetParam().has_margins);
      });
      std::vector<ExampleLogps> values;
      for (int64_t example = comm_.rank(); example < kExamples; example += comm_.size())
        values.push_back({example, {-3.0 - 0.1 * static_cast<double>(example), -1}, {-4, -0.5}});
      write_reference_logps(comm_, Dataset(directory_.path()), kReferenceModel, std::move(values));
    }
  }

  ModelConfig config() const {
    ModelConfig config = test::tiny_config();
    config.vocab_size = 1000;
    if (std::string_view(GetParam().name).starts_with("reward")) config.head = HeadKind::kScore;
    return config;
  }

  /// Collective: the gradient of all rows as one global batch, a row per micro-batch.
  Outcome gradient_of(const StageRows& rows) const {
    const int64_t rounds = (rows.dataset->num_rows() + comm_.size() - 1) / comm_.size();
    std::vector<MicroBatch> mine;
    for (int64_t round = 0; round < rounds; ++round) {
      const int64_t row = round * comm_.size() + comm_.rank();
      mine.push_back(
          rows.micro_batch(row < rows.dataset->num_rows() ? std::vector<int64_t>{row} : std::vector<int64_t>{}));
      mine.back().number = row;
    }
    ShardedModel model(config(), comm_, {.dtype = at::kFloat, .accumulation_steps = rounds});
    model.load([&](int unit, ElementRange range, std::span<float> out) {
      const UnitLayout& layout = model.units()[unit].unit();
      for (const Parameter& p : layout.parameters)
        for (int64_t i = std::max(range.begin, p.offset); i < std::min(range.end, p.offset + p.num_elements()); ++i) {
          const double value = random_normal(9, static_cast<uint64_t>(unit), static_cast<uint64_t>(i)) * 0.2;
          out[i - range.begin] = static_cast<float>(p.shape.size() > 1 ? value : 1.0 + value);
        }
    });
    const std::unique_ptr<Objective> objective = GetParam().make_objective();
    const BatchGradient gradient = accumulate_global_batch(model, comm_, *objective, mine);
    Outcome outcome{objective->metrics(gradient.sums, false).front().value, gradient.norm, {}};
    for (size_t unit = 0; unit < model.units().size(); ++unit) {
      const std::span<const float> shard = model.gradient_shard(static_cast<int>(unit));
      outcome.gradients.insert(outcome.gradients.end(), shard.begin(), shard.end());
    }
    return outcome;
  }

  /// Collective: capacity_tokens = 0 means not packed.
  StageRows open(int64_t capacity_tokens) const {
    StageRows rows;
    rows.dataset = std::make_unique<Dataset>(directory_.path(), config().vocab_size);
    if (GetParam().kind == kPairsKind)
      rows.reference_logps = std::make_unique<ReferenceLogps>(*rows.dataset, kReferenceModel);
    if (capacity_tokens == 0) return rows;
    ensure_packing(comm_, *rows.dataset, capacity_tokens);
    rows.dataset->use_packing(capacity_tokens);
    return rows;
  }

  const Communicator comm_;
  const SharedDirectory directory_{comm_};
};

TEST_P(PackedGradient, IsThatOfUnpackedRows) {
  const StageRows one_by_one = open(0), packed = open(kCapacityTokens);
  ASSERT_EQ(one_by_one.dataset->num_rows(), kExamples);
  ASSERT_LT(packed.dataset->num_rows(), kExamples / 2);
  const Outcome expected = gradient_of(one_by_one), got = gradient_of(packed);
  ASSERT_GT(expected.norm, 0);
  EXPECT_NEAR(got.loss / expected.loss, 1, kTolerance);
  EXPECT_NEAR(got.norm / expected.norm, 1, kTolerance);
  ASSERT_EQ(got.gradients.size(), expected.gradients.size());
  double largest = 0;
  for (size_t i = 0; i < got.gradients.size(); ++i)
    largest = std::max(largest, static_cast<double>(std::abs(got.gradients[i] - expected.gradients[i])));
  EXPECT_LE(largest, kTolerance * expected.norm);
}

INSTANTIATE_TEST_SUITE_P(Stage, PackedGradient, testing::ValuesIn(kCases),
                         [](const auto& given) { return std::string(given.param.name); });

}  // namespace
}  // namespace plumb
