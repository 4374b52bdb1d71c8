// Adapters written by PEFT itself, and losses of adapters in PEFT (tests/golden/make_adapters.py).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "io/file/atomic_directory.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/peft_adapter.hpp"
#include "io/huggingface/peft_export.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/loaded_model.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

struct PeftRecord {
  const char* base;
  const char* adapter;
};

class PeftReference : public testing::TestWithParam<PeftRecord> {
 protected:
  void SetUp() override { SKIP_WITHOUT_REFERENCE_RECORDS(); }
};

TEST_P(PeftReference, RoundTripsExactly) {
  const HfModel base(test::reference_file(std::string("models/") + GetParam().base));
  const std::string original = test::reference_file(std::string("models/") + GetParam().adapter);
  const PeftAdapter adapter(original, base.config());
  const UnitLayout& unit = adapter.unit();
  std::vector<float> values(unit.num_elements);
  adapter.read_range(0, unit.num_elements, values);
  double largest_b = 0;
  for (const Parameter& parameter : unit.parameters)
    if (parameter.part == AdapterPart::kLoraB)
      for (int64_t i = 0; i < parameter.num_elements(); ++i)
        largest_b = std::max(largest_b, std::abs(double{values[parameter.offset + i]}));
  EXPECT_GT(largest_b, 0);

  const TemporaryDirectory directory;
  const std::string copy = directory / "copy";
  const ExportPlan plan = plan_adapter_export(unit, false);
  AtomicDirectory exported(copy);
  const std::string temporary = exported.temporary_path();
  create_export_files(plan, temporary);
  write_unit_range(plan, temporary, 0, 0, unit.num_elements, values);
  finish_adapter_export(plan, temporary, adapter.config(), unit, adapter_checksums(unit, 0, unit.num_elements, values));
  exported.publish();

  const SafetensorsFile expected(original + "/adapter_model.safetensors"), written(copy + "/adapter_model.safetensors");
  ASSERT_EQ(written.entries().size(), expected.entries().size());
  for (const SafetensorsEntry& entry : expected.entries()) {
    const SafetensorsEntry& ours = written.at(entry.name);
    ASSERT_EQ(ours.shape, entry.shape);
    ASSERT_EQ(ours.dtype, entry.dtype);
    std::vector<std::byte> a(entry.num_elements * 4), b(a.size());
    expected.read(entry, 0, std::span(a));
    written.read(ours, 0, std::span(b));
    EXPECT_EQ(a, b) << entry.name;
  }
  const auto theirs = nlohmann::json::parse(std::ifstream(original + "/adapter_config.json"));
  const auto ours = nlohmann::json::parse(directory.read("copy/adapter_config.json"));
  for (const auto& [key, value] : ours.items()) {
    if (key == "target_modules" || key == "target_parameters") continue;  // a set: PEFT writes it in any order
    EXPECT_EQ(value, theirs.at(key)) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Adapters, PeftReference,
                         testing::Values(PeftRecord{"stories260K", "stories260K-lora"},
                                         PeftRecord{"stories260K", "stories260K-lora-all"},
                                         PeftRecord{"tiny-qwen3_moe", "tiny-qwen3_moe-lora"}));

TEST(PeftExperts, OneAdapterForEachExpertIsRefused) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const HfModel base(test::reference_file("models/tiny-mixtral-hub"));
  const std::string adapter = test::reference_file("models/tiny-mixtral-lora4");
  expect_contains(refusal_of<DataError>([&] { const PeftAdapter opened(adapter, base.config()); }),
                  {"adapter_model.safetensors", "block_sparse_moe.experts.0", "target_parameters", "merge"});
}

/// The values that the record's script gives a tensor.
TinyTensor sines(const nlohmann::json& shape_and_seed) {
  TinyTensor tensor{shape_and_seed[0].get<std::vector<int64_t>>(), {}};
  int64_t count = 1;
  for (const int64_t size : tensor.shape) count *= size;
  for (int64_t i = 1; i <= count; ++i)
    tensor.values.push_back(
        static_cast<float>(0.3 * std::sin(0.7 * static_cast<double>(i) + shape_and_seed[1].get<double>())));
  return tensor;
}

/// Mean over all predicted tokens.
double loss_of(const LoadedModel& model, const MicroBatch& batch) {
  TokenLossScratch scratch;
  const auto result = token_loss(hidden_states(model, batch), find_targets(batch), model.head(), model.config.output(),
                                 TokenLoss::kNll, 0, {}, scratch);
  double sum = 0;
  for (const TokenStats& token : result.stats) sum += token.loss;
  return sum / static_cast<double>(result.stats.size());
}

TEST(PeftLosses, AreThoseOfTheMergedModel) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const auto record = nlohmann::json::parse(std::ifstream(PLUMB_SOURCE_DIR "/tests/golden/adapters.json"));
  const std::string base = test::reference_file("models/" + record["base"].get<std::string>());
  const MicroBatch batch = pack(record["texts"].get<std::vector<std::vector<int64_t>>>());
  for (const auto& [name, adapter] : record["adapters"].items()) {
    SCOPED_TRACE(name);
    const TemporaryDirectory directory;
    TinyTensors tensors;
    for (const auto& [tensor, form] : adapter["tensors"].items()) tensors[tensor] = sines(form);
    write_tiny_weights(directory / "adapter_model.safetensors", tensors);
    directory.write("adapter_config.json", adapter["config"].dump());
    const LoadedModel model(base, at::kFloat, directory.path());
    EXPECT_NEAR(loss_of(model, batch), adapter["loss"].get<double>(), 1e-5);
  }
}

}  // namespace
}  // namespace plumb
