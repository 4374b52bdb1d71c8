#include "io/huggingface/hf_model.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;

class HfModelDirectory : public testing::Test {
 protected:
  HfModelDirectory() {
    directory_.write("config.json", render_model_config(config_, "float32"));
    write();
  }
  void write() { write_tiny_weights(directory_ / "model.safetensors", tensors_); }
  template <class Error = DataError>
  std::string refusal() {
    return message_of<Error>([&] { HfModel model(directory_.path()); });
  }
  /// Distributes the tensors over two files in turn, with an index.
  void write_parts() {
    TinyTensors parts[2];
    json weight_map;
    size_t serial = 0;
    for (const auto& [name, tensor] : tensors_) {
      const size_t part = serial++ % 2;
      parts[part][name] = tensor;
      weight_map[name] = kParts[part];
    }
    for (const size_t part : {0, 1}) write_tiny_weights(directory_ / kParts[part], parts[part]);
    write_index(weight_map);
    std::filesystem::remove(directory_ / "model.safetensors");
  }
  void write_index(const json& weight_map) {
    index_ = weight_map;
    directory_.write("model.safetensors.index.json",
                     json{{"metadata", json::object()}, {"weight_map", weight_map}}.dump());
  }

  static constexpr const char* kParts[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
  const ModelConfig config_ = tiny_config(Family::kLlama, false);
  TinyTensors tensors_ = tiny_tensors(config_);
  TemporaryDirectory directory_;
  json index_;
};

TEST(HfParameterName, DiffersForEveryParameter) {
  ModelConfig config = tiny_config(Family::kQwen3, false);
  config.has_qkv_bias = config.has_o_bias = true;
  std::set<std::string> names;
  size_t num_parameters = 0;
  for (const UnitLayout& unit : unit_layouts(config))
    for (const Parameter& parameter : unit.parameters) names.insert(hf_parameter_name(parameter)), ++num_parameters;
  EXPECT_EQ(names.size(), num_parameters);
  EXPECT_EQ(num_parameters, 3u + 2 * 15);
  EXPECT_TRUE(names.contains("model.layers.1.self_attn.o_proj.bias"));
}

TEST(HfModel, ReadsAnyRangeWithZerosInGaps) {
  for (const Family family : {Family::kLlama, Family::kMistral, Family::kQwen2, Family::kQwen3})
    for (const bool is_tied : {false, true}) {
      const ModelConfig config = tiny_config(family, is_tied);
      const TinyTensors tensors = tiny_tensors(config);
      const TemporaryDirectory directory;
      write_tiny_model(directory, config);
      const HfModel model(directory.path());
      ASSERT_EQ(model.units().size(), is_tied ? 3u : 4u);
      for (const UnitLayout& unit : model.units()) {
        std::vector<float> expected(static_cast<size_t>(unit.num_elements) + 100, 0.0f);
        for (const Parameter& parameter : unit.parameters) {
          const std::vector<float>& values = tensors.at(hf_parameter_name(parameter)).values;
          std::copy(values.begin(), values.end(), expected.begin() + parameter.offset);
        }
        for (const int64_t piece : {1, 7, 64, 97, 5000})
          for (int64_t begin = 0; begin < static_cast<int64_t>(expected.size()); begin += piece) {
            const int64_t end = std::min(begin + piece, static_cast<int64_t>(expected.size()));
            std::vector<float> values(end - begin, -1.0f);
            model.read_unit_range(unit, begin, end, values);
            ASSERT_TRUE(std::equal(values.begin(), values.end(), expected.begin() + begin))
                << unit.name << " " << begin;
          }
      }
    }
}

/// Reads the head of a model whose config ties it to the embedding and whose files have one of these values.
std::vector<float> read_head(const std::vector<float>& head, bool has_embedding = true) {
  const ModelConfig config = tiny_config(Family::kLlama, true);
  TinyTensors tensors = tiny_tensors(config);
  TinyTensor& embedding = tensors.at("model.embed_tokens.weight");
  tensors["lm_head.weight"] = {embedding.shape, head.empty() ? embedding.values : head};
  if (!has_embedding) tensors.erase("model.embed_tokens.weight");
  const TemporaryDirectory directory;
  write_tiny_model(directory, config);
  write_tiny_weights(directory / "model.safetensors", tensors);
  const HfModel model(directory.path());
  EXPECT_EQ(model.config().ties_embeddings, head.empty() || !has_embedding);
  const UnitLayout& unit = model.config().ties_embeddings ? model.units().front() : model.units().back();
  for (const Parameter& parameter : unit.parameters) {
    if (parameter.kind != ParameterKind::kHead && parameter.kind != ParameterKind::kEmbedding) continue;
    std::vector<float> values(parameter.num_elements());
    model.read_unit_range(unit, parameter.offset, parameter.offset + parameter.num_elements(), values);
    return values;
  }
  return {};
}

TEST(HfModel, AHeadWithOtherValuesThanATiedEmbeddingIsNotTied) {
  const std::vector<float> embedding =
      tiny_tensors(tiny_config(Family::kLlama, true)).at("model.embed_tokens.weight").values;
  std::vector<float> other = embedding;
  other.back() += 1;
  EXPECT_EQ(read_head({}), embedding);
  EXPECT_EQ(read_head(other), other);
  EXPECT_EQ(read_head(other, /*has_embedding=*/false), other);  // one matrix under either name
}

TEST_F(HfModelDirectory, ReadsWeightsFromSeveralFiles) {
  const HfModel single(directory_.path());
  write_parts();
  const HfModel parts(directory_.path());
  for (const UnitLayout& unit : single.units()) EXPECT_EQ(read_whole_unit(parts, unit), read_whole_unit(single, unit));
}

TEST_F(HfModelDirectory, MustExist) {
  const auto message = [](const std::string& path) {
    return message_of<InputOutputError>([&] { HfModel model(path); });
  };
  expect_contains(message("/nonexistent/model"),
                  {"/nonexistent/model", "No such file", "config.json", "does not download"});
  expect_contains(message(directory_ / "config.json"), {"config.json", "Not a directory"});
}

TEST_F(HfModelDirectory, RequiresAConfig) {
  std::filesystem::remove(directory_ / "config.json");
  expect_contains(refusal<InputOutputError>(), {"config.json", "got none"});
  directory_.write("adapter_config.json", "{}");
  expect_contains(refusal<InputOutputError>(), {"got none; this is an adapter: give its base model here"});
  directory_.write("adapter_config.json", R"({"peft_type": "LORA", "base_model_name_or_path": "org/base"})");
  expect_contains(refusal<InputOutputError>(), {"give its base model (org/base) here and", "as --adapter"});
  // PEFT may save the config of the base beside an adapter
  directory_.write("config.json", render_model_config(config_, "float32"));
  directory_.write("adapter_model.safetensors", "");
  directory_.write("training_args.bin", "x");
  std::filesystem::remove(directory_ / "model.safetensors");
  expect_contains(refusal<InputOutputError>(), {"weights, got none; this is an adapter"});
  write();
  EXPECT_FALSE(HfModel(directory_.path()).has_adapter());  // a merged model with what was merged into it
}

TEST_F(HfModelDirectory, RefusesPickledWeights) {
  std::filesystem::remove(directory_ / "model.safetensors");
  expect_contains(refusal<InputOutputError>(), {"model.safetensors", "got neither"});
  directory_.write("pytorch_model.bin", "x");
  expect_contains(refusal(), {"pytorch_model.bin", "pickled", "AutoModelForCausalLM as M;",
                              "d = '" + directory_.path() + "'", "save_pretrained(d)\""});
}

TEST_F(HfModelDirectory, ListsMissingExtraAndMisshapenTensors) {
  tensors_.erase("model.norm.weight");
  tensors_["lm_head.weight"].shape = {12, 11};
  tensors_["model.layers.2.mlp.up_proj.weight"] = tensors_["model.layers.1.mlp.up_proj.weight"];
  write();
  expect_contains(refusal(), {directory_.path().c_str(), "1 missing: model.norm.weight",
                              "lm_head.weight (expected F32, BF16, F16 or F64 of [11, 12], got F32 of [12, 11])",
                              "1 not in the model: model.layers.2.mlp.up_proj.weight"});
}

TEST_F(HfModelDirectory, ListsOnlyTheFirstMissingTensors) {
  tensors_ = {{"lm_head.weight", tensors_["lm_head.weight"]}};
  write();
  const std::string message = refusal();
  expect_contains(message, {"20 missing: model.embed_tokens.weight", "and 15 more"});
}

TEST_F(HfModelDirectory, RefusesIntegerWeights) {
  directory_.write("config.json", render_model_config(config_, "float32"));
  std::vector<SafetensorsTensor> stored;
  for (const auto& [name, tensor] : tensors_)
    stored.push_back({{name, Dtype::kI32, tensor.shape}, std::as_bytes(std::span(tensor.values))});
  write_safetensors_file(directory_ / "model.safetensors", stored, {});
  expect_contains(refusal(), {"21 of another shape or dtype", "got I32 of"});
}

TEST_F(HfModelDirectory, IgnoresTensorsThatTransformersIgnores) {
  tensors_["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{3}, {1, 2, 3}};
  tensors_["model.layers.0.self_attn.masked_bias"] = {{1}, {-1e9}};
  for (const char* head : {"v_head.summary.weight", "score.weight"}) tensors_[head] = {{1, 2}, {4, 5}};
  write();
  const HfModel model(directory_.path());
  EXPECT_EQ(model.config().head, HeadKind::kLanguageModel);
  EXPECT_EQ(read_whole_unit(model, model.units().back()).back(), tensors_["lm_head.weight"].values.back());
}

TEST(HfModel, TakesTheSameHeadAsATiedOne) {
  const TemporaryDirectory directory;
  const ModelConfig tied = tiny_config(Family::kLlama, true);
  TinyTensors tensors = tiny_tensors(tied);
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
  directory.write("config.json", render_model_config(tied, "float32"));
  write_tiny_weights(directory / "model.safetensors", tensors);
  EXPECT_TRUE(HfModel(directory.path()).config().ties_embeddings);
  tensors["lm_head.weight"] = {{1}, {0}};
  write_tiny_weights(directory / "model.safetensors", tensors);
  expect_contains(message_of<DataError>([&] { HfModel model(directory.path()); }), {"lm_head.weight (expected F32"});
  tensors.erase("lm_head.weight");
  write_tiny_weights(directory / "model.safetensors", tensors);
  directory.write("config.json", render_model_config(tiny_config(Family::kLlama, false), "float32"));
  expect_contains(message_of<DataError>([&] { HfModel model(directory.path()); }), {"1 missing: lm_head.weight"});
}

TEST_F(HfModelDirectory, RewardModelHasAScoreHead) {
  tensors_.erase("lm_head.weight");
  const int64_t size = config_.hidden_size;
  tensors_["score.weight"] = {{1, size}, std::vector<float>(size, 4.0f)};
  write();
  const HfModel model(directory_.path(), {.head = HeadKind::kScore});
  const UnitLayout& head = model.units().back();
  ASSERT_EQ(head.parameters.back().kind, ParameterKind::kScore);
  const std::vector<float> values = read_whole_unit(model, head);
  EXPECT_EQ(values[0], tensors_["model.norm.weight"].values[0]);
  EXPECT_EQ(std::vector(values.end() - size, values.end()), tensors_["score.weight"].values);
  EXPECT_TRUE(model.has_score());
  expect_contains(refusal(), {"1 missing: lm_head.weight"});
  tensors_["score.weight"] = {{2, 2}, {4, 5, 6, 7}};
  write();
  expect_contains(message_of<DataError>([&] { HfModel(directory_.path(), {.head = HeadKind::kScore}); }),
                  {"score.weight", "[1, 12]", "[2, 2]"});
}

TEST_F(HfModelDirectory, MissingScoreIsInitializedFromTheSeed) {
  write();
  const auto head_of = [&](uint64_t seed) {
    const HfModel model(directory_.path(), {.head = HeadKind::kScore, .seed = seed});
    EXPECT_FALSE(model.has_score());
    return read_whole_unit(model, model.units().back());
  };
  const std::vector<float> first = head_of(1);
  EXPECT_EQ(first[0], tensors_["model.norm.weight"].values[0]);
  EXPECT_NE(first.back(), 0.0f);
  EXPECT_LT(std::abs(first.back()), 10 * config_.initializer_range);
  EXPECT_EQ(first, head_of(1));
  EXPECT_NE(first, head_of(2));
}

TEST_F(HfModelDirectory, NamesTheNonFiniteElement) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    tensors_["model.layers.1.mlp.down_proj.weight"].values[7] = bad;
    write();
    const HfModel model(directory_.path());
    const UnitLayout& block = model.units()[2];
    const Parameter& down = block.parameters.back();
    std::vector<float> values(4);
    expect_contains(
        message_of<DataError>([&] { model.read_unit_range(block, down.offset + 5, down.offset + 9, values); }),
        {"model.safetensors", "model.layers.1.mlp.down_proj.weight", "element 7"});
    EXPECT_NO_THROW(model.read_unit_range(block, down.offset + 8, down.offset + 12, values));
  }
}

TEST_F(HfModelDirectory, NamesMissingFiles) {
  write_parts();
  std::filesystem::remove(directory_ / kParts[1]);
  expect_contains(refusal<InputOutputError>(), {"index.json", "2 files", "all but 1", kParts[1], "download"});
}

TEST_F(HfModelDirectory, RefusesIndexPathsOutsideTheDirectory) {
  write_parts();
  const json good = index_;
  for (const char* path : {"../model.safetensors", "/etc/passwd", "/tmp/x.safetensors", "sub/x.safetensors", "..", "",
                           ".hidden.safetensors", "a\\b.safetensors", "model.bin"}) {
    json bad = good;
    bad["lm_head.weight"] = path;
    write_index(bad);
    expect_contains(refusal(), {"weight_map: \"lm_head.weight\"", "without a folder"});
  }
  json bad = good;
  bad["lm_head.weight"] = std::string("x\0.safetensors", 14);
  write_index(bad);
  expect_contains(refusal(), {"weight_map: \"lm_head.weight\""});
  bad["lm_head.weight"] = 7;
  write_index(bad);
  expect_contains(refusal(), {"weight_map: \"lm_head.weight\"", "got 7"});
}

TEST_F(HfModelDirectory, RefusesAnIndexThatContradictsItsFiles) {
  write_parts();
  const json good = index_;
  json bad = good;
  std::swap(bad["lm_head.weight"], bad["model.embed_tokens.weight"]);
  ASSERT_NE(bad, good);
  write_index(bad);
  expect_contains(refusal(), {"lm_head.weight", "expected it in"});
  bad = good;
  bad["model.layers.1.mlp.up_proj.bias"] = kParts[0];  // no one needs it
  write_index(bad);
  EXPECT_NO_THROW(HfModel(directory_.path()));
  bad = good;
  bad.erase("lm_head.weight");
  write_index(bad);
  EXPECT_NO_THROW(HfModel(directory_.path()));  // transformers reads it too
  tensors_.erase("model.norm.weight");
  write_parts();
  bad = index_;
  bad["model.norm.weight"] = kParts[0];
  write_index(bad);
  expect_contains(refusal(), {"1 missing: model.norm.weight"});
  directory_.write("model.safetensors.index.json", "{}");
  expect_contains(refusal(), {"weight_map", "no such key"});
  directory_.write("model.safetensors.index.json",
                   "{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"y.safetensors\"}}");
  expect_contains(refusal(), {"index.json", "\"a\" twice"});
}

TEST_F(HfModelDirectory, TheIndexDecidesAmongFilesWithTheSameTensor) {
  const HfModel single(directory_.path());
  write_parts();
  TinyTensors base = tensors_;
  for (auto& [name, tensor] : base)
    if (index_.at(name) != kParts[1]) tensor.values.assign(tensor.values.size(), 7.0f);
  write_tiny_weights(directory_ / kParts[1], base);  // with stale copies of what the first file holds
  const HfModel overlaid(directory_.path());
  for (const UnitLayout& unit : single.units())
    EXPECT_EQ(read_whole_unit(overlaid, unit), read_whole_unit(single, unit));
  json unlisted = index_;
  unlisted.erase("lm_head.weight");
  TinyTensors first;
  for (const auto& [name, tensor] : tensors_)
    if (index_.at(name) == kParts[0] || name == "lm_head.weight") first[name] = tensor;
  write_tiny_weights(directory_ / kParts[0], first);
  write_index(unlisted);
  expect_contains(refusal(), {"lm_head.weight: expected each tensor once", kParts[0], kParts[1]});
}

TEST_F(HfModelDirectory, NamesMayHaveThePrefixesOfWrappersOrNone) {
  const HfModel plain(directory_.path());
  const TinyTensors tensors = tensors_;
  const auto renamed = [&](const std::function<std::string(const std::string&)>& rename) {
    tensors_.clear();
    for (const auto& [name, tensor] : tensors) tensors_[rename(name)] = tensor;
    write();
    const HfModel model(directory_.path());
    for (const UnitLayout& unit : plain.units()) EXPECT_EQ(read_whole_unit(model, unit), read_whole_unit(plain, unit));
  };
  for (const std::string prefix : {"module.", "_orig_mod.", "module._orig_mod.", "language_model."})
    renamed([&](const std::string& name) { return prefix + name; });
  renamed([](const std::string& name) { return name.starts_with("model.") ? name.substr(6) : name; });
  tensors_["model.norm.weight"] = tensors.at("model.norm.weight");
  write();
  expect_contains(refusal(), {"expected each tensor once", "norm.weight", "also as"});
}

TEST_F(HfModelDirectory, FormatsMayBeMixed) {
  constexpr Dtype kFormats[] = {Dtype::kF64, Dtype::kF16, Dtype::kF64, Dtype::kBf16};
  std::deque<std::vector<double>> doubles;
  std::vector<SafetensorsTensor> stored;
  const std::vector<uint16_t> halves(1000, 0x3c00);  // 1 in F16, 0.0078125 in BF16
  for (const auto& [name, tensor] : tensors_) {
    const auto& values = doubles.emplace_back(tensor.values.begin(), tensor.values.end());
    const Dtype dtype = kFormats[stored.size() % 4];
    const auto bytes =
        dtype == Dtype::kF64 ? std::as_bytes(std::span(values)) : std::as_bytes(std::span(halves).first(values.size()));
    stored.push_back({{name, dtype, tensor.shape}, bytes});
  }
  write_safetensors_file(directory_ / "model.safetensors", stored, {});
  for (const bool quantizes : {false, true}) {
    const HfModel model(directory_.path(), {.quantizes = quantizes});
    for (const UnitLayout& unit : model.units()) {
      const std::vector<float> values = read_whole_unit(model, unit);
      for (const Parameter& parameter : unit.parameters) {
        if (model.is_quantized(parameter)) continue;
        const SafetensorsEntry& entry = *model.stored_tensor(parameter).entry;
        const float of_halves = entry.dtype == Dtype::kF16 ? 1.0f : 0.0078125f;
        EXPECT_EQ(values[parameter.offset], entry.dtype == Dtype::kF64 ? tensors_.at(entry.name).values[0] : of_halves);
      }
    }
  }
}

TEST_F(HfModelDirectory, PointersOfGitLfsAreNamed) {
  for (const char* name : {"model.safetensors", "config.json"}) {
    directory_.write(name, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 5242880\n");
    expect_contains(refusal(), {name, "Git LFS pointer", "git -C " + directory_.path() + " lfs pull"});
  }
}

}  // namespace
}  // namespace plumb
