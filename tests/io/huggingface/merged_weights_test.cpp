// Compares adapters merged by HfModel with sums in double.
#include "io/huggingface/merged_weights.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using enum ParameterKind;

class MergedWeights : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(directory_ / "adapter");
    write_tiny_model(directory_, model_);
  }
  /// Tensors of small nonzero numbers.
  void write_adapter(const LoraConfig& config, const ModelConfig& model) {
    directory_.write("adapter/adapter_config.json", render_lora_config(config));
    const UnitLayout unit = adapter_layout(model, resolve_adapter(config, model));
    tensors_.clear();
    int64_t serial = 0;
    for (const Parameter& parameter : unit.parameters) {
      TinyTensor& tensor = tensors_[peft_tensor_name(parameter)];
      tensor.shape = parameter.shape;
      for (int64_t i = 0; i < parameter.num_elements(); ++i)
        tensor.values.push_back(std::sin(static_cast<float>(++serial)) + 0.01f);
    }
    write_tiny_weights(directory_ / "adapter/adapter_model.safetensors", tensors_);
  }
  HfModel merged(HfModelOptions options = {}) const {
    options.adapter = directory_ / "adapter";
    return HfModel(directory_.path(), options);
  }
  /// W + scaling B A, in double.
  double low_rank_sum(const std::string& module, double w, double scaling, int64_t row, int64_t column) const {
    const TinyTensor& a = tensors_.at("base_model.model." + module + ".lora_A.weight");
    const TinyTensor& b = tensors_.at("base_model.model." + module + ".lora_B.weight");
    double sum = 0;
    for (int64_t r = 0; r < a.shape[0]; ++r)
      sum += double{b.values[row * a.shape[0] + r]} * double{a.values[r * a.shape[1] + column]};
    return w + scaling * sum;
  }
  /// Calls expect(parameter, values of the merged model, values of the base).
  template <class Expect>
  void for_each_parameter(const HfModel& model, const HfModel& base, Expect expect) const {
    for (const UnitLayout& unit : model.units()) {
      const std::vector<float> values = read_whole_unit(model, unit), base_values = read_whole_unit(base, unit);
      for (const Parameter& parameter : unit.parameters)
        expect(parameter, std::span(values).subspan(parameter.offset, parameter.num_elements()),
               std::span(base_values).subspan(parameter.offset, parameter.num_elements()));
    }
  }

  const ModelConfig model_ = tiny_config(Family::kLlama, false);
  const TemporaryDirectory directory_;
  TinyTensors tensors_;
};

const LoraConfig kPlain = {.r = 3,
                           .lora_alpha = 6,
                           .target_modules = {{"down_proj", "k_proj", "q_proj"}, ""},
                           .rank_pattern = {{"k_proj", 2}},
                           .modules_to_save = {"lm_head"}};

TEST_F(MergedWeights, AreBasePlusScaledProduct) {
  write_adapter(kPlain, model_);
  const HfModel base(directory_.path());
  int num_changed = 0;
  for_each_parameter(merged(), base, [&](const Parameter& parameter, auto values, auto base_values) {
    const bool is_adapted = parameter.kind == kQ || parameter.kind == kK || parameter.kind == kDown;
    for (int64_t i = 0; i < parameter.num_elements(); ++i) {
      const auto index = static_cast<size_t>(i);
      if (parameter.kind == kHead) {
        ASSERT_EQ(values[index], tensors_.at("base_model.model.lm_head.weight").values[index]);
      } else if (!is_adapted) {
        ASSERT_EQ(values[index], base_values[index]);
      } else {
        const double scaling = parameter.kind == kK ? 3 : 2;
        const int64_t columns = parameter.shape[1];
        const double expected =
            low_rank_sum(module_path(parameter), base_values[index], scaling, i / columns, i % columns);
        ASSERT_NEAR(values[index], expected, 1e-6 * (std::abs(expected) + 10));
        num_changed += values[index] != base_values[index] ? 1 : 0;
      }
    }
  });
  EXPECT_GT(num_changed, 2 * (12 * 12 + 6 * 12 + 12 * 10) * 9 / 10);
}

TEST_F(MergedWeights, DoraRowsHaveTheLengthOfTheMagnitude) {
  LoraConfig config = kPlain;
  config.uses_dora = true;
  config.uses_rslora = true;
  write_adapter(config, model_);
  const HfModel base(directory_.path());
  for_each_parameter(merged(), base, [&](const Parameter& parameter, auto values, auto base_values) {
    if (parameter.kind != kQ && parameter.kind != kK && parameter.kind != kDown) return;
    const std::string module = module_path(parameter);
    const TinyTensor& magnitude = tensors_.at("base_model.model." + module + ".lora_magnitude_vector");
    const double scaling = 6 / std::sqrt(parameter.kind == kK ? 2.0 : 3.0);
    const int64_t columns = parameter.shape[1];
    for (int64_t row = 0; row < parameter.shape[0]; ++row) {
      std::vector<double> sum;
      double norm = 0;
      for (int64_t i = 0; i < columns; ++i) {
        sum.push_back(low_rank_sum(module, base_values[row * columns + i], scaling, row, i));
        norm += sum.back() * sum.back();
      }
      const double factor = magnitude.values[row] / std::sqrt(norm);
      for (int64_t i = 0; i < columns; ++i) ASSERT_NEAR(values[row * columns + i], factor * sum[i], 2e-6);
    }
  });
}

TEST_F(MergedWeights, AreTheSameForAnyRange) {
  for (const bool uses_dora : {false, true}) {
    LoraConfig config = kPlain;
    config.uses_dora = uses_dora;
    write_adapter(config, model_);
    const HfModel model = merged();
    for (const UnitLayout& unit : model.units()) {
      const std::vector<float> whole = read_whole_unit(model, unit);
      for (const int64_t piece : {1, 7, 53, 130})
        for (int64_t begin = 0; begin < unit.num_elements; begin += piece) {
          const int64_t end = std::min(begin + piece, unit.num_elements);
          std::vector<float> part(end - begin, -1.0f);
          model.read_unit_range(unit, begin, end, part);
          ASSERT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin)) << unit.name << " " << begin;
        }
    }
  }
}

TEST_F(MergedWeights, WideRowsAreTheSameForAnyRange) {
  // rows longer than one block of columns
  ModelConfig wide = model_;
  wide.hidden_size = 150;
  const TemporaryDirectory directory;
  write_tiny_model(directory, wide);
  write_adapter({.r = 3, .target_modules = {{"q_proj"}, ""}}, wide);
  const HfModel model(directory.path(), HfModelOptions{.adapter = directory_ / "adapter"});
  const HfModel base(directory.path());
  const UnitLayout& unit = model.units()[1];
  const std::vector<float> whole = read_whole_unit(model, unit);
  EXPECT_NE(whole, read_whole_unit(base, unit));
  for (int64_t begin = 0; begin < unit.num_elements; begin += 97) {
    const int64_t end = std::min(begin + 97, unit.num_elements);
    std::vector<float> part(end - begin);
    model.read_unit_range(unit, begin, end, part);
    ASSERT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin)) << begin;
  }
}

TEST_F(MergedWeights, ZeroAdapterGivesTheBase) {
  write_adapter({.r = 2, .target_modules = {{"q_proj"}, ""}}, model_);
  for (auto& [name, tensor] : tensors_)
    if (name.ends_with("lora_B.weight")) std::fill(tensor.values.begin(), tensor.values.end(), 0.0f);
  write_tiny_weights(directory_ / "adapter/adapter_model.safetensors", tensors_);
  const HfModel model = merged(), base(directory_.path());
  for (const UnitLayout& unit : model.units()) EXPECT_EQ(read_whole_unit(model, unit), read_whole_unit(base, unit));
}

TEST_F(MergedWeights, Nf4BaseIsDequantizedFirst) {
  write_adapter({.r = 2, .lora_alpha = 2, .target_modules = {{"o_proj"}, ""}}, model_);
  const HfModel base(directory_.path(), HfModelOptions{.quantizes = true});
  for_each_parameter(merged({.quantizes = true}), base, [&](const Parameter& parameter, auto values, auto base_values) {
    if (parameter.kind != kO) return;
    for (int64_t i = 0; i < parameter.num_elements(); ++i) {
      const auto index = static_cast<size_t>(i);
      const double expected =
          low_rank_sum(module_path(model_, kO, parameter.layer), base_values[index], 1, i / 12, i % 12);
      ASSERT_NEAR(values[index], expected, 1e-6 * (std::abs(expected) + 10));
    }
  });
}

TEST_F(MergedWeights, RewardAdapterBringsItsScore) {
  ModelConfig scored = model_;
  scored.head = HeadKind::kScore;
  write_adapter({.task_type = "SEQ_CLS", .r = 2, .target_modules = {{"q_proj"}, ""}, .modules_to_save = {"score"}},
                scored);
  const HfModel base(directory_.path(), HfModelOptions{.head = HeadKind::kScore});
  EXPECT_FALSE(base.has_score());
  const HfModel model = merged();  // the adapter determines the head
  EXPECT_EQ(model.config().head, HeadKind::kScore);
  EXPECT_TRUE(model.has_score());
  const UnitLayout& head = model.units().back();
  const std::vector<float> values = read_whole_unit(model, head);
  const Parameter& score = head.parameters.back();
  ASSERT_EQ(score.kind, kScore);
  const auto& expected = tensors_.at("base_model.model.score.weight").values;
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), values.begin() + score.offset));
}

TEST_F(MergedWeights, RefuseAnAdapterOfAnotherBase) {
  ModelConfig other = model_;
  other.hidden_size = 24;
  write_adapter(kPlain, other);
  EXPECT_NE(message_of<DataError>([&] { merged(); }).find("another base"), std::string::npos);
}

}  // namespace
}  // namespace plumb
