#include "io/huggingface/peft_adapter.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "io/file/atomic_directory.hpp"
#include "io/huggingface/adapter_init.hpp"
#include "io/huggingface/peft_export.hpp"
#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

LoraConfig every_part() {
  return {.base_model = "base",
          .task_type = "CAUSAL_LM",
          .r = 3,
          .lora_alpha = 6,
          .target_modules = {{"down_proj", "k_proj", "q_proj"}, ""},
          .rank_pattern = {{"k_proj", 2}},
          .modules_to_save = {"embed_tokens", "lm_head"},
          .uses_dora = true};
}

/// Nonzero and distinct values, with zeros in the gaps.
std::vector<float> some_values(const UnitLayout& unit, int64_t begin, int64_t end) {
  std::vector<float> values(end - begin, 0.0f);
  for (const Parameter& parameter : unit.parameters)
    for (int64_t i = std::max(begin, parameter.offset); i < std::min(end, parameter.offset + parameter.num_elements());
         ++i)
      values[i - begin] = 1.0001f * static_cast<float>(i + 1);
  return values;
}

class AdapterFiles : public testing::Test {
 protected:
  UnitLayout unit_of(const LoraConfig& config) const { return adapter_layout(model_, resolve_adapter(config, model_)); }
  /// Writes in ranges of `piece` elements, last range first, without the range that contains element `omitted`.
  void write(const std::string& directory, const LoraConfig& config, int64_t piece = 100, int64_t omitted = -1) const {
    const UnitLayout unit = unit_of(config);
    const ExportPlan plan = plan_adapter_export(unit, false);
    AtomicDirectory exported(directory, ExistingDirectory::kReplace);
    const std::string temporary = exported.temporary_path();
    create_export_files(plan, temporary);
    std::vector<int64_t> checksums(unit.parameters.size(), 0);
    for (int64_t i = (unit.num_elements + piece - 1) / piece - 1; i >= 0; --i) {
      const std::vector<float> values = some_values(unit, i * piece, (i + 1) * piece);
      const auto part = adapter_checksums(unit, i * piece, (i + 1) * piece, values);
      for (size_t p = 0; p < part.size(); ++p) checksums[p] += part[p];
      if (omitted < i * piece || omitted >= (i + 1) * piece)
        write_unit_range(plan, temporary, 0, i * piece, (i + 1) * piece, values);
    }
    finish_adapter_export(plan, temporary, config, unit, checksums);
    exported.publish();
  }
  /// The tensors of a written adapter, to be corrupted.
  TinyTensors tensors() const {
    TinyTensors result;
    const PeftAdapter adapter(path_, model_);
    for (const Parameter& parameter : adapter.unit().parameters) {
      TinyTensor& tensor = result[peft_tensor_name(parameter)];
      tensor.shape = parameter.shape;
      tensor.values.resize(parameter.num_elements());
      adapter.read_range(parameter.offset, parameter.offset + parameter.num_elements(), tensor.values);
    }
    return result;
  }
  void write_tensors(const TinyTensors& tensors) const {
    write_tiny_weights(path_ + "/adapter_model.safetensors", tensors);
  }
  std::string refusal() const {
    return message_of<DataError>([&] {
      const PeftAdapter adapter(path_, model_);
      std::vector<float> values(adapter.unit().num_elements);
      adapter.read_range(0, adapter.unit().num_elements, values);
    });
  }

  const ModelConfig model_ = tiny_config(Family::kQwen3, false);
  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "adapter";
  const std::string kQuery_ = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";
};

TEST_F(AdapterFiles, RoundTripForAnySplit) {
  for (const int64_t piece : {37, 64, 5000}) {
    write(path_, every_part(), piece);
    const PeftAdapter adapter(path_, model_);
    EXPECT_EQ(adapter.config(), every_part());
    const UnitLayout unit = unit_of(every_part());
    std::vector<float> values(unit.num_elements + 64, -1.0f);
    adapter.read_range(0, unit.num_elements + 64, values);
    EXPECT_EQ(values, some_values(unit, 0, unit.num_elements + 64));
    for (int64_t begin = 0; begin < unit.num_elements; begin += 53) {
      std::vector<float> part(53, -1.0f);
      adapter.read_range(begin, begin + 53, part);
      ASSERT_EQ(part, some_values(unit, begin, begin + 53)) << begin;
    }
  }
}

TEST_F(AdapterFiles, HaveTheSameBytesForAnySplit) {
  write(path_, every_part(), 64);
  write(directory_ / "other", every_part(), 5000);
  EXPECT_EQ(directory_.read("adapter/adapter_model.safetensors"), directory_.read("other/adapter_model.safetensors"));
  EXPECT_EQ(directory_.read("adapter/adapter_config.json"), directory_.read("other/adapter_config.json"));
}

TEST_F(AdapterFiles, HaveTheNamesShapesAndDtypesOfPeft) {
  write(path_, every_part());
  const SafetensorsFile file(path_ + "/adapter_model.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const auto expect_shape = [&](const std::string& name, const std::vector<int64_t>& shape) {
    EXPECT_EQ(file.at("base_model.model." + name).shape, shape) << name;
  };
  expect_shape("model.layers.0.self_attn.q_proj.lora_A.weight", {3, 12});
  expect_shape("model.layers.0.self_attn.q_proj.lora_B.weight", {12, 3});
  expect_shape("model.layers.0.self_attn.q_proj.lora_magnitude_vector", {12});
  expect_shape("model.layers.1.self_attn.k_proj.lora_A.weight", {2, 12});
  expect_shape("model.layers.1.mlp.down_proj.lora_A.weight", {3, 10});
  expect_shape("model.embed_tokens.weight", {11, 12});
  expect_shape("lm_head.weight", {11, 12});
  EXPECT_EQ(file.entries().size(), 2 * 3 * 3 + 2u);
  for (const SafetensorsEntry& entry : file.entries()) EXPECT_EQ(entry.dtype, Dtype::kF32);
  EXPECT_EQ(json::parse(directory_.read("adapter/adapter_config.json")).at("peft_type"), "LORA");
}

TEST_F(AdapterFiles, RewardAdapterContainsTheScore) {
  ModelConfig scored = model_;
  scored.head = HeadKind::kScore;
  const LoraConfig config = {.task_type = "SEQ_CLS", .target_modules = {{"q_proj"}, ""}};
  const UnitLayout unit = adapter_layout(scored, resolve_adapter(config, scored));
  EXPECT_EQ(peft_tensor_name(unit.parameters.back()), "base_model.model.score.weight");
  EXPECT_EQ(unit.parameters.back().shape, (std::vector<int64_t>{1, 12}));
}

TEST_F(AdapterFiles, IncompleteWriteCannotBeCommitted) {
  const UnitLayout unit = unit_of(every_part());
  for (const Parameter& parameter : unit.parameters)
    expect_contains(message_of<DataError>([&] { write(path_, every_part(), 16, parameter.offset); }),
                    {"expected what the ranks wrote", "base_model.model."});
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(AdapterFiles, NanCannotBeCommitted) {
  const UnitLayout unit = unit_of(every_part());
  const ExportPlan plan = plan_adapter_export(unit, false);
  AtomicDirectory exported(path_);
  const std::string temporary = exported.temporary_path();
  create_export_files(plan, temporary);
  std::vector<float> values = some_values(unit, 0, unit.num_elements);
  values[3] = std::numeric_limits<float>::quiet_NaN();
  write_unit_range(plan, temporary, 0, 0, unit.num_elements, values);
  const auto checksums = adapter_checksums(unit, 0, unit.num_elements, values);
  expect_contains(message_of<DataError>([&] { finish_adapter_export(plan, temporary, every_part(), unit, checksums); }),
                  {"lora_A", "element 3", "finite"});
}

TEST_F(AdapterFiles, ReplaceAnAdapterButNothingElse) {
  write(path_, every_part());
  write(path_, every_part());
  fs::remove(path_ + "/adapter_config.json");
  expect_contains(message_of<UsageError>([&] { write(path_, every_part()); }), {"adapter_config.json"});
}

TEST_F(AdapterFiles, AnotherBaseIsRefused) {
  write(path_, every_part());
  ModelConfig wider = model_;
  wider.hidden_size = 16;
  expect_contains(message_of<DataError>([&] { PeftAdapter(path_, wider); }),
                  {"another base", "of another shape", "expected F32, BF16, F16 or F64 of [", "got F32 of ["});
  ModelConfig deeper = model_;
  deeper.num_layers = 3;
  deeper.sliding_window.push_back(0);
  expect_contains(message_of<DataError>([&] { PeftAdapter(path_, deeper); }), {"missing", "layers.2."});
  ModelConfig shallower = model_;
  shallower.num_layers = 1;
  expect_contains(message_of<DataError>([&] { PeftAdapter(path_, shallower); }), {"not of this adapter", "layers.1."});
}

TEST_F(AdapterFiles, MissingExtraOrMisshapenTensorsAreRefused) {
  write(path_, every_part());
  TinyTensors damaged = tensors();
  damaged.erase(kQuery_);
  write_tensors(damaged);
  expect_contains(refusal(), {"1 missing", kQuery_.c_str()});

  write(path_, every_part());
  damaged = tensors();
  damaged["base_model.model.model.layers.1.self_attn.q_proj.weight"] = {{1}, {1.0f}};
  write_tensors(damaged);
  expect_contains(refusal(), {"1 not of this adapter", "q_proj.weight"});

  write(path_, every_part());
  damaged = tensors();
  std::swap(damaged[kQuery_].shape[0], damaged[kQuery_].shape[1]);
  write_tensors(damaged);
  expect_contains(refusal(), {"1 of another shape", "[3, 12]", "[12, 3]"});
}

TEST_F(AdapterFiles, DamagedWeightsAreRefused) {
  write(path_, every_part());
  TinyTensors damaged = tensors();
  damaged[kQuery_].values[7] = std::numeric_limits<float>::infinity();
  write_tensors(damaged);
  expect_contains(refusal(), {kQuery_.c_str(), "element 7"});
  const auto size = fs::file_size(path_ + "/adapter_model.safetensors");
  for (const uintmax_t kept : {size - 1, size / 2, uintmax_t{20}, uintmax_t{0}}) {
    fs::resize_file(path_ + "/adapter_model.safetensors", kept);
    expect_contains(refusal(), {"adapter_model.safetensors"});
  }
}

TEST_F(AdapterFiles, MissingOrPickledWeightsAreRefused) {
  write(path_, every_part());
  fs::rename(path_ + "/adapter_model.safetensors", path_ + "/adapter_model.bin");
  expect_contains(refusal(), {"adapter_model.bin", "pickled", "d = '" + path_ + "/adapter_model.'", "save_file"});
  fs::remove(path_ + "/adapter_model.bin");
  expect_contains(message_of<InputOutputError>([&] { PeftAdapter(path_, model_); }), {"adapter_model.safetensors"});
  fs::remove(path_ + "/adapter_config.json");
  directory_.write("adapter/config.json", "{}");
  expect_contains(message_of<InputOutputError>([&] { PeftAdapter(path_, model_); }),
                  {"adapter_config.json", "this is a model"});
  expect_contains(message_of<InputOutputError>([&] { PeftAdapter(directory_ / "absent", model_); }), {"absent"});
}

TEST_F(AdapterFiles, HalfPrecisionIsConverted) {
  write(path_, {.target_modules = {{"q_proj"}, ""}});
  const TinyTensors full = tensors();
  std::vector<SafetensorsTensor> stored;
  std::vector<std::vector<uint16_t>> bits;
  for (const auto& [name, tensor] : full) {
    bits.emplace_back();
    for (const float value : tensor.values) bits.back().push_back(float_to_bf16(value));
    stored.push_back({{name, Dtype::kBf16, tensor.shape}, std::as_bytes(std::span(bits.back()))});
  }
  write_safetensors_file(path_ + "/adapter_model.safetensors", stored, {});
  for (const auto& [name, tensor] : tensors())
    for (size_t i = 0; i < tensor.values.size(); ++i)
      ASSERT_EQ(tensor.values[i], bf16_to_float(float_to_bf16(full.at(name).values[i])));
}

TEST(PeftNames, AreThoseOfPeftWithoutAdapterAndWrappers) {
  const auto expect_name = [](const char* stored, const char* name, const char* adapter) {
    EXPECT_EQ(parse_peft_name(stored), (PeftName{std::string("base_model.model.") + name, adapter})) << stored;
  };
  const char* a = "model.layers.0.self_attn.q_proj.lora_A.weight";
  expect_name("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", a, "");
  expect_name("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", a, "default");
  expect_name("model.layers.0.self_attn.q_proj.lora_A.mine.weight", a, "mine");
  for (const std::string prefix : {"module.", "_orig_mod.", "module.base_model.model.", "base_model.model.module.",
                                   "base_model.model.model.language_model.", "base_model.model.language_model.model.",
                                   "base_model.model._orig_mod.model.", "base_model.model."})
    expect_name((prefix + "layers.0.self_attn.q_proj.lora_A.weight").c_str(), a, "");
  expect_name("base_model.model.lm_head.lora_B.default.weight", "lm_head.lora_B.weight", "default");
  for (const char* rest : {"lora_embedding_A", "lora_embedding_A.default"})
    expect_name((std::string("base_model.model.model.embed_tokens.") + rest).c_str(),
                "model.embed_tokens.lora_embedding_A", std::string(rest).size() > 16 ? "default" : "");
  for (const char* rest : {"", ".weight", ".default", ".default.weight"})
    expect_name((std::string("base_model.model.lm_head.lora_magnitude_vector") + rest).c_str(),
                "lm_head.lora_magnitude_vector",
                std::string(rest).find("default") == std::string::npos ? "" : "default");
  expect_name("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight", "default");
  expect_name("base_model.model.lm_head.modules_to_save.weight", "lm_head.weight", "");
  expect_name("base_model.model.model.layers.0.mlp.modules_to_save.default.up_proj.weight",
              "model.layers.0.mlp.up_proj.weight", "default");
  expect_name("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default",
              "model.embed_tokens.token_adapter.trainable_tokens_delta", "default");
  expect_name("base_model.model.model.embed_tokens.token_adapter.base_layer.weight",
              "model.embed_tokens.base_layer.weight", "");
  expect_name("x", "x", "");
}

TEST_F(AdapterFiles, NamesMayHoldTheAdapterAndWrappers) {
  write(path_, every_part());
  const TinyTensors plain = tensors();
  TinyTensors renamed;
  for (const auto& [name, tensor] : plain) {
    std::string other = "module." + name;
    if (const size_t at = other.find(".lora_A."); at != std::string::npos) other.insert(at + 8, "default.");
    renamed[other] = tensor;
  }
  write_tensors(renamed);
  for (const auto& [name, tensor] : tensors()) EXPECT_EQ(tensor.values, plain.at(name).values) << name;

  renamed["base_model.model.lm_head.modules_to_save.other.weight"] = plain.at("base_model.model.lm_head.weight");
  write_tensors(renamed);
  expect_contains(refusal(), {"expected one adapter", "default", "other"});

  TinyTensors twice = plain;
  twice["base_model.model.lm_head.modules_to_save.weight"] = plain.at("base_model.model.lm_head.weight");
  write_tensors(twice);
  EXPECT_EQ(tensors().size(), plain.size());
  twice["base_model.model.lm_head.modules_to_save.weight"].values[0] += 1;
  write_tensors(twice);
  expect_contains(refusal(), {"which is the same parameter, got others"});
}

class NewAdapter : public AdapterFiles {
 protected:
  NewAdapter() { write_tiny_model(base_, model_); }
  std::vector<float> initial(const Adapter& adapter, int64_t piece, uint64_t seed = 7) const {
    const HfModel base(base_.path());
    const UnitLayout unit = adapter_layout(model_, adapter);
    std::vector<float> values;
    for (int64_t begin = 0; begin < unit.num_elements; begin += piece) {
      const int64_t end = std::min(begin + piece, unit.num_elements);
      std::vector<float> part(end - begin, -1.0f);
      initial_adapter_range(base, adapter, unit, seed, begin, part);
      values.insert(values.end(), part.begin(), part.end());
    }
    return values;
  }
  const TemporaryDirectory base_;
};

TEST_F(NewAdapter, IsTheSameForAnySplitAndChangesWithTheSeed) {
  const Adapter adapter = resolve_adapter(every_part(), model_);
  const std::vector<float> whole = initial(adapter, 100000);
  EXPECT_EQ(initial(adapter, 1), whole);
  EXPECT_EQ(initial(adapter, 77), whole);
  EXPECT_NE(initial(adapter, 77, 8), whole);
}

TEST_F(NewAdapter, StartsAsTheBaseModel) {
  const Adapter adapter = resolve_adapter(every_part(), model_);
  const UnitLayout unit = adapter_layout(model_, adapter);
  const std::vector<float> values = initial(adapter, 100000);
  TinyTensors base = tiny_tensors(model_);
  for (const Parameter& parameter : unit.parameters) {
    const TinyTensor& tensor = base.at(hf_parameter_name({parameter.kind, parameter.layer, {}, 0}));
    double sum = 0, sum_of_squares = 0;
    for (int64_t i = 0; i < parameter.num_elements(); ++i) {
      const float value = values[parameter.offset + i];
      sum += value;
      sum_of_squares += static_cast<double>(value) * value;
      if (parameter.part == AdapterPart::kLoraA) {
        EXPECT_LT(std::abs(value), 1 / std::sqrt(static_cast<float>(parameter.shape[1])));
        EXPECT_NE(value, 0.0f);
      }
      if (parameter.part == AdapterPart::kLoraB) {
        EXPECT_EQ(value, 0.0f);
      }
      if (parameter.part == AdapterPart::kWhole) {
        EXPECT_EQ(value, tensor.values[i]);
      }
      if (parameter.part == AdapterPart::kMagnitude) {
        double norm = 0;
        for (int64_t j = 0; j < tensor.shape[1]; ++j)
          norm += std::pow(static_cast<double>(tensor.values[i * tensor.shape[1] + j]), 2);
        EXPECT_NEAR(value, std::sqrt(norm), 1e-6 * std::sqrt(norm));
      }
    }
    if (parameter.part != AdapterPart::kLoraA) continue;
    const auto n = static_cast<double>(parameter.num_elements());
    const double variance = 1.0 / static_cast<double>(parameter.shape[1]) / 3;  // of U(-b, b): b^2 / 3
    EXPECT_NEAR(sum / n, 0, 5 * std::sqrt(variance / n));
    EXPECT_NEAR(sum_of_squares / n, variance, 0.5 * variance);
  }
}

}  // namespace
}  // namespace plumb
