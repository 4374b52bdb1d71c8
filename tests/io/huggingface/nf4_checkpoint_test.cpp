// NF4 checkpoints round-trip exactly through plumb's own writer and reader.
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "io/huggingface/hf_export.hpp"
#include "tests/io/huggingface/nf4_checkpoint.hpp"

namespace plumb {
namespace {

using nlohmann::json;

TEST_F(Nf4Checkpoint, RoundTripsExactly) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBf16, Dtype::kF16})
    for (const bool is_nested : {true, false}) {
      make(dtype, is_nested);
      const HfModel plain(source_), quantizing(source_, {.quantizes = true, .quantizes_scales = is_nested});
      const HfModel stored(target_);
      EXPECT_FALSE(plain.is_quantized());
      EXPECT_TRUE(quantizing.is_quantized() && stored.is_quantized());
      int num_quantized = 0;
      for_each_parameter(plain, [&](const UnitLayout& unit, const Parameter& parameter) {
        const std::vector<float> original = read_values(plain, unit, parameter);
        ASSERT_EQ(stored.is_quantized(parameter), is_block_matrix(parameter.kind));
        ASSERT_EQ(quantizing.is_quantized(parameter), is_block_matrix(parameter.kind));
        ASSERT_FALSE(plain.is_quantized(parameter));
        if (!is_block_matrix(parameter.kind)) {
          ASSERT_EQ(read_values(stored, unit, parameter), original);
          ASSERT_EQ(stored.stored_tensor(parameter).entry->dtype, dtype);
          return;
        }
        ++num_quantized;
        const Nf4Layout layout = nf4_layout(parameter.num_elements(), is_nested);
        std::vector<std::byte> expected(layout.num_bytes);
        nf4_quantize(original, layout, expected);
        std::vector<float> dequantized(original.size());
        nf4_dequantize({layout, expected.data(), dtype}, 0, dequantized);
        ASSERT_NE(dequantized, original);
        for (const HfModel* model : {&quantizing, &stored}) {
          ASSERT_EQ(model->nf4_layout_of(parameter).num_bytes, layout.num_bytes);
          ASSERT_EQ(model->nf4_layout_of(parameter).is_nested, is_nested);
          ASSERT_EQ(model->original_dtype_of(parameter), dtype);
          ASSERT_TRUE(read_nf4(*model, parameter) == expected) << hf_parameter_name(parameter);
          ASSERT_EQ(read_values(*model, unit, parameter), dequantized);
        }
      });
      EXPECT_EQ(num_quantized, 7 * config_.num_layers);
    }
}

TEST_F(Nf4Checkpoint, DequantizesAnyRange) {
  for (const bool is_nested : {true, false}) {
    make(Dtype::kF32, is_nested);
    const HfModel quantizing(source_, {.quantizes = true, .quantizes_scales = is_nested}), stored(target_);
    for (const UnitLayout& unit : stored.units()) {
      const std::vector<float> whole = read_whole_unit(stored, unit);
      for (const HfModel* model : {&quantizing, &stored})
        for (const int64_t piece : {127, 5000, 16384, 40000})
          for (int64_t begin = 0; begin < unit.num_elements; begin += piece) {
            const int64_t end = std::min(begin + piece, unit.num_elements);
            std::vector<float> values(end - begin, -1.0f);
            model->read_unit_range(unit, begin, end, values);
            ASSERT_TRUE(std::equal(values.begin(), values.end(), whole.begin() + begin)) << unit.name << " " << begin;
          }
    }
  }
}

TEST_F(Nf4Checkpoint, IsThreadSafe) {
  make();
  const HfModel quantizing(source_, {.quantizes = true}), stored(target_);
  const UnitLayout& block = stored.units()[1];
  const std::vector<float> expected = read_whole_unit(stored, block);
  std::vector<int> num_wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < num_wrong.size(); ++thread)
    threads.emplace_back([&, thread] {
      for (size_t i = 0; i < 2 * block.parameters.size(); ++i) {
        const Parameter& parameter = block.parameters[(i * (thread + 1)) % block.parameters.size()];
        const std::vector<float> values = read_values(thread % 2 ? stored : quantizing, block, parameter);
        num_wrong[thread] += !std::equal(values.begin(), values.end(), expected.begin() + parameter.offset);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, std::vector<int>(4, 0));
}

TEST_F(Nf4Checkpoint, HasTheNamesAndKeysOfBitsandbytes) {
  make();
  const int64_t num_elements = 187 * 90, num_blocks = (num_elements + 63) / 64;
  std::set<std::string> names;
  for (const auto& [name, tensor] : tensors_)
    if (name.starts_with(kMatrix)) names.insert(name.substr(std::strlen(kMatrix)));
  EXPECT_EQ(names, (std::set<std::string>{"", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map",
                                          ".quant_state.bitsandbytes__nf4"}));
  const auto expect_form = [&](const char* suffix, Dtype dtype, const std::vector<int64_t>& shape) {
    EXPECT_EQ(part(suffix).spec.dtype, dtype) << suffix;
    EXPECT_EQ(part(suffix).spec.shape, shape) << suffix;
  };
  expect_form("", Dtype::kU8, {num_elements / 2, 1});
  expect_form(".absmax", Dtype::kU8, {num_blocks});
  expect_form(".quant_map", Dtype::kF32, {16});
  expect_form(".nested_absmax", Dtype::kF32, {(num_blocks + 255) / 256});
  expect_form(".nested_quant_map", Dtype::kF32, {256});
  const json said = state();
  EXPECT_EQ(said.size(), 7u);
  EXPECT_EQ(said.at("quant_type"), "nf4");
  EXPECT_EQ(said.at("blocksize"), 64);
  EXPECT_EQ(said.at("dtype"), "bfloat16");
  EXPECT_EQ(said.at("shape"), json({187, 90}));
  EXPECT_EQ(said.at("nested_blocksize"), 256);
  EXPECT_EQ(said.at("nested_dtype"), "float32");
  EXPECT_GT(said.at("nested_offset").get<double>(), 0);

  const json expected = json::parse(R"({"_load_in_4bit":true,"_load_in_8bit":false,"bnb_4bit_compute_dtype":"bfloat16",
    "bnb_4bit_quant_storage":"uint8","bnb_4bit_quant_type":"nf4","bnb_4bit_use_double_quant":true,
    "llm_int8_enable_fp32_cpu_offload":false,"llm_int8_has_fp16_weight":false,"llm_int8_skip_modules":null,
    "llm_int8_threshold":6.0,"load_in_4bit":true,"load_in_8bit":false,"quant_method":"bitsandbytes"})");
  json config = config_of("target");
  EXPECT_EQ(config.at("quantization_config"), expected);
  config.erase("quantization_config");
  EXPECT_EQ(config, config_of("source"));

  make(Dtype::kF32, false);
  expect_form(".absmax", Dtype::kF32, {num_blocks});
  EXPECT_EQ(state().size(), 4u);
  EXPECT_EQ(config_of("target").at("quantization_config").at("bnb_4bit_use_double_quant"), false);
  EXPECT_EQ(config_of("target").at("quantization_config").at("bnb_4bit_compute_dtype"), "float32");
  const SafetensorsFile file(target_ + "/model.safetensors");
  for (const SafetensorsEntry& entry : file.entries())
    EXPECT_EQ(entry.offset_bytes % size_bytes(entry.dtype), 0) << entry.name;
}

TEST_F(Nf4Checkpoint, MayBeInSeveralFiles) {
  make();
  const std::string several = directory_ / "several";
  write_quantized(HfModel(source_, {.quantizes = true}), several, 20'000);
  const json index = json::parse(directory_.read("several/model.safetensors.index.json"));
  EXPECT_EQ(index.at("weight_map").size(), tensors_.size());
  const HfModel one(target_), parts(several);
  for (const UnitLayout& unit : one.units()) EXPECT_EQ(read_whole_unit(parts, unit), read_whole_unit(one, unit));
}

TEST_F(Nf4Checkpoint, MayLeaveMatricesUnquantized) {
  make();
  const RawTensor original = read_raw(source_ + "/model.safetensors").at(kMatrix);
  std::erase_if(tensors_, [](const auto& entry) { return entry.first.starts_with(kMatrix); });
  tensors_[kMatrix] = original;
  rewrite();
  const HfModel mixed(target_), plain(source_), quantizing(target_, {.quantizes = true});
  for_each_parameter(mixed, [&](const UnitLayout& unit, const Parameter& parameter) {
    const bool is_number = hf_parameter_name(parameter) == kMatrix;
    EXPECT_EQ(mixed.is_quantized(parameter), is_block_matrix(parameter.kind) && !is_number);
    EXPECT_EQ(quantizing.is_quantized(parameter), is_block_matrix(parameter.kind));
    if (!is_number) return;
    EXPECT_EQ(read_values(mixed, unit, parameter), read_values(plain, unit, parameter));
    EXPECT_NE(read_values(quantizing, unit, parameter), read_values(plain, unit, parameter));
  });
}

TEST_F(Nf4Checkpoint, MayQuantizeMatricesThatStayNumbers) {
  ModelConfig config = config_;
  config.vocab_size = config.intermediate_size;  // so that the embedding has the shape of kMatrix
  write_source(directory_, "source", config, Dtype::kBf16);
  write_quantized(HfModel(source_, {.quantizes = true}), target_);
  tensors_ = read_raw(target_ + "/model.safetensors");
  const std::string embedding = "model.embed_tokens.weight";
  for (auto& [name, tensor] : RawTensors(tensors_)) {
    if (!name.starts_with(kMatrix)) continue;
    RawTensor& moved = tensors_[embedding + name.substr(std::strlen(kMatrix))] = tensor;
    moved.spec.name = embedding + name.substr(std::strlen(kMatrix));
  }
  rewrite();
  const HfModel model(target_);
  std::map<std::string, std::vector<float>> values;
  for_each_parameter(model, [&](const UnitLayout& unit, const Parameter& parameter) {
    EXPECT_EQ(model.is_quantized(parameter), is_block_matrix(parameter.kind));
    values[hf_parameter_name(parameter)] = read_values(model, unit, parameter);
  });
  EXPECT_EQ(values.at(embedding), values.at(kMatrix));
}

TEST_F(Nf4Checkpoint, MayStoreCodesAsWiderNumbers) {
  make();
  const HfModel before(target_);
  const std::vector<float> expected = read_whole_unit(before, before.units()[1]);
  for (auto& [name, tensor] : tensors_)
    if (tensor.spec.dtype == Dtype::kU8 && tensor.spec.shape.size() == 2 && tensor.bytes.size() % 2 == 0)
      tensor.spec = {name, Dtype::kBf16, {std::ssize(tensor.bytes) / 2, 1}};
  rewrite();
  const HfModel wide(target_);
  EXPECT_EQ(read_whole_unit(wide, wide.units()[1]), expected);
}

TEST_F(Nf4Checkpoint, ExportIsDequantized) {
  make();
  const HfModel model(target_);
  const ExportPlan plan = plan_export(model.units(), Dtype::kF32);
  const std::string numbers = directory_ / "numbers";
  AtomicDirectory exported(numbers);
  const std::string temporary = exported.temporary_path();
  create_export_files(plan, temporary);
  for (size_t i = 0; i < model.units().size(); ++i) {
    const UnitLayout& unit = model.units()[i];
    write_unit_range(plan, temporary, i, 0, unit.num_elements, read_whole_unit(model, unit));
  }
  finish_export(plan, temporary, model.config(), {.tokenizer = {target_}});
  exported.publish();
  EXPECT_FALSE(config_of("numbers").contains("quantization_config"));
  const HfModel read_back(numbers);
  EXPECT_FALSE(read_back.is_quantized());
  for (const UnitLayout& unit : model.units())
    EXPECT_EQ(read_whole_unit(read_back, unit), read_whole_unit(model, unit));
}

}  // namespace
}  // namespace plumb
