// A model directory with one error is refused: exit code, message, no partial output.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kNorm = "model.norm.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

/// The files of a model directory as text, which tests corrupt.
struct Model {
  std::string config, tokenizer, weights;
  bool has_config = true, has_tokenizer = true, has_weights = true;

  void set(const char* key, const ordered_json& value) {
    ordered_json object = ordered_json::parse(config);
    object[key] = value;
    config = object.dump();
  }
  void remove(const char* key) {
    ordered_json object = ordered_json::parse(config);
    object.erase(key);
    config = object.dump();
  }

  uint64_t header_bytes() const {
    uint64_t size = 0;
    std::memcpy(&size, weights.data(), sizeof size);
    return size;
  }
  void set_header_bytes(uint64_t size) { std::memcpy(weights.data(), &size, sizeof size); }
  std::string header_text() const { return weights.substr(8, header_bytes()); }
  ordered_json header() const { return ordered_json::parse(header_text()); }
  void set_header(const std::string& text) {
    weights = std::string(8, '\0') + text + weights.substr(8 + header_bytes());
    set_header_bytes(text.size());
  }
  /// One key of one tensor's entry.
  void set_entry(const char* tensor, const char* key, const ordered_json& value) {
    ordered_json object = header();
    object[tensor][key] = value;
    set_header(object.dump());
  }
  void set_weight(const char* tensor, size_t index, float value) {
    const size_t offset = 8 + header_bytes() + header()[tensor]["data_offsets"][0].get<size_t>();
    std::memcpy(weights.data() + offset + index * sizeof value, &value, sizeof value);
  }
};

struct BadModel {
  const char* name;
  std::function<void(Model&)> corrupt;
  int exit_code;
  std::vector<std::string> message;
};

void PrintTo(const BadModel& bad, std::ostream* out) { *out << bad.name; }

std::vector<BadModel> bad_configs() {
  return {
      {"NoConfig", [](Model& m) { m.has_config = false; }, 74, {"bad: expected a model directory with config.json"}},
      {"NotJson", [](Model& m) { m.config = "{\"a\":"; }, 65, {"bad/config.json: byte 6: expected JSON"}},
      {"MissingNumber", [](Model& m) { m.remove("hidden_size"); }, 65, {"config.json: hidden_size", "got no such key"}},
      {"NegativeNumber", [](Model& m) { m.set("hidden_size", -4); }, 65, {"config.json: hidden_size", "got -4"}},
      {"TextForNumber", [](Model& m) { m.set("vocab_size", "320"); }, 65, {"config.json: vocab_size", "got \"320\""}},
      {"AbsurdLayers",
       [](Model& m) { m.set("num_hidden_layers", 1'000'000'000'000); },
       65,
       {"config.json: num_hidden_layers: expected a whole number from 1 to", "got 1000000000000"}},
      {"AbsurdSize",
       [](Model& m) {
         m.set("hidden_size", 1'000'000);
         m.set("num_hidden_layers", 10'000);
         m.set("intermediate_size", 10'000'000);
       },
       65,
       {"config.json: expected a model of at most"}},
      {"HeadsThatDoNotDivide",
       [](Model& m) { m.set("num_key_value_heads", 3); },
       65,
       {"config.json: num_key_value_heads: expected a divisor of num_attention_heads 4", "got 3"}},
      {"UnknownFamily",
       [](Model& m) { m.set("model_type", "bert"); },
       65,
       {"config.json: model_type: expected one of llama, mistral, ministral, qwen2, qwen3", "got \"bert\""}},
      {"UnknownActivation",
       [](Model& m) { m.set("hidden_act", "gelu"); },
       65,
       {"hidden_act: expected silu", "\"gelu\""}},
      {"UnknownRope",
       [](Model& m) {
         m.set("rope_scaling", {{"rope_type", "spiral"}, {"factor", 2.0}});
       },
       65,
       {"rope_scaling: rope_type: expected one of default, linear, llama3", "got \"spiral\""}},
      {"EndTokenOutsideTheVocabulary",
       [](Model& m) { m.set("vocab_size", 100); },
       65,
       {"config.json: eos_token_id: expected a token id from 0 to 99", "got 256"}},
      {"NoTokenizer",
       [](Model& m) { m.has_tokenizer = false; },
       74,
       {"bad: expected tokenizer.json or tokenizer.model"}},
      {"EmptyTokenizer", [](Model& m) { m.tokenizer = "{}"; }, 65, {"bad: tokenizer.json: model: expected an object"}},
  };
}

std::vector<BadModel> bad_weights() {
  return {
      {"NoWeights", [](Model& m) { m.has_weights = false; }, 74, {"bad: expected weights in model.safetensors"}},
      {"EmptyFile",
       [](Model& m) { m.weights = ""; },
       65,
       {"bad/model.safetensors: expected", "at least 8 bytes, got 0"}},
      {"TruncatedHeader",
       [](Model& m) { m.weights.resize(100); },
       65,
       {"model.safetensors: expected a header of at most 92 bytes", "and complete?"}},
      {"TruncatedWeights",
       [](Model& m) { m.weights.resize(m.weights.size() - 10); },
       65,
       {"model.safetensors: tensor lm_head.weight: expected data_offsets up to", "is the file truncated?"}},
      {"BytesTooMany", [](Model& m) { m.weights += "more"; }, 65, {"model.safetensors: expected", "after the header"}},
      {"HugeHeader",
       [](Model& m) { m.set_header_bytes(uint64_t{1} << 62); },
       65,
       {"model.safetensors: expected a header of at most", "got a length of 4611686018427387904"}},
      {"HeaderOfNoise",
       [](Model& m) { m.set_header("{\"" + std::string(200, '\x01')); },
       65,
       {"model.safetensors: header byte", "expected JSON"}},
      {"Overlap",
       [](Model& m) {
         m.set_entry(kNorm, "data_offsets", {0, 128});
       },
       65,
       {"model.safetensors: tensor model.embed_tokens.weight: expected data_offsets to start at 128", "they overlap"}},
      {"OutOfRange",
       [](Model& m) {
         m.set_entry(kNorm, "data_offsets", {1'000'000'000, 1'000'000'128});
       },
       65,
       {"model.safetensors: tensor", "expected data_offsets"}},
      {"OffsetsThatOverflow",
       [](Model& m) {
         m.set_entry(kNorm, "data_offsets", {INT64_MAX - 127, std::numeric_limits<uint64_t>::max()});
       },
       65,
       {"model.safetensors: tensor model.norm.weight: data_offsets", "18446744073709551615"}},
      {"Duplicate",
       [](Model& m) {
         std::string text = m.header_text();
         text.resize(text.rfind('}'));
         m.set_header(text + ", \"model.norm.weight\": " + m.header()[kNorm].dump() + "}");
       },
       65,
       {"model.safetensors: tensor model.norm.weight: expected each name once, got it twice"}},
      {"IntegerDtype",
       [](Model& m) { m.set_entry(kNorm, "dtype", "I32"); },
       65,
       {"model.norm.weight (expected F32, BF16, F16 or F64 of [32], got I32 of [32])"}},
      {"UnknownDtype",
       [](Model& m) { m.set_entry(kNorm, "dtype", "Q4"); },
       65,
       {"tensor model.norm.weight: expected dtype one of F32", "got Q4"}},
      {"DtypeOfAnotherSize",
       [](Model& m) { m.set_entry(kNorm, "dtype", "BF16"); },
       65,
       {"tensor model.norm.weight: expected 64 bytes for BF16 of shape [32]", "of 128 bytes"}},
      {"WrongShape",
       [](Model& m) {
         m.set_entry(kNorm, "shape", {4, 8});
       },
       65,
       {"model.norm.weight (expected F32, BF16, F16 or F64 of [32], got F32 of [4, 8])"}},
      {"MissingTensor",
       [](Model& m) { m.set("num_hidden_layers", 3); },
       65,
       {"bad: expected the weights that config.json describes; 9 missing: model.layers.2.", "and 4 more"}},
      {"ExtraTensor",
       [](Model& m) { m.set("num_hidden_layers", 1); },
       65,
       {"bad: expected the weights that config.json describes; 9 not in the model: model.layers.1."}},
      {"RenamedTensor",
       [](Model& m) {
         ordered_json header = m.header();
         header["model.other.weight"] = header[kNorm];
         header.erase(kNorm);
         m.set_header(header.dump());
       },
       65,
       {"1 missing: model.norm.weight; 1 not in the model: model.other.weight"}},
      {"Nan",
       [](Model& m) { m.set_weight("lm_head.weight", 10'239, std::numeric_limits<float>::quiet_NaN()); },
       65,
       {"model.safetensors: tensor lm_head.weight: element 10239: expected a finite number, got nan"}},
      {"Infinity",
       [](Model& m) { m.set_weight(kEmbedding, 0, std::numeric_limits<float>::infinity()); },
       65,
       {"model.safetensors: tensor model.embed_tokens.weight: element 0: expected a finite number, got inf"}},
  };
}

class BadModelTest : public ProgramTest, public testing::WithParamInterface<BadModel> {
 protected:
  void write_bad_model(const BadModel& bad) const {
    Model model{directory_.read("model/config.json"), directory_.read("model/tokenizer.json"),
                directory_.read("model/model.safetensors")};
    bad.corrupt(model);
    fs::copy(directory_ / "model", directory_ / "bad");
    const auto replace = [&](const char* name, bool is_kept, const std::string& content) {
      fs::remove(directory_ / ("bad/" + std::string(name)));
      if (is_kept) directory_.write("bad/" + std::string(name), content);
    };
    replace("config.json", model.has_config, model.config);
    replace("tokenizer.json", model.has_tokenizer, model.tokenizer);
    replace("model.safetensors", model.has_weights, model.weights);
  }
};

TEST_P(BadModelTest, IsRefused) {
  write_bad_model(GetParam());
  expect_refused(sft(0, {{"model", "bad"}}), GetParam().exit_code, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Config, BadModelTest, testing::ValuesIn(bad_configs()),
                         [](const auto& given) { return given.param.name; });
INSTANTIATE_TEST_SUITE_P(Weights, BadModelTest, testing::ValuesIn(bad_weights()),
                         [](const auto& given) { return given.param.name; });

using BadModelOnRanks = BadModelTest;

TEST_P(BadModelOnRanks, IsRefusedByAllWithOneMessage) {
  write_bad_model(GetParam());
  expect_refused(sft(3, {{"model", "bad"}}), GetParam().exit_code, GetParam().message);
}

std::vector<BadModel> some_bad_models() {
  std::vector<BadModel> chosen;
  for (const auto& all : {bad_configs(), bad_weights()})
    for (const BadModel& bad : all)
      for (const char* name : {"MissingNumber", "NoTokenizer", "TruncatedHeader", "Nan"})
        if (bad.name == std::string(name)) chosen.push_back(bad);
  return chosen;
}

INSTANTIATE_TEST_SUITE_P(Some, BadModelOnRanks, testing::ValuesIn(some_bad_models()),
                         [](const auto& given) { return given.param.name; });

class BadModelDirectory : public ProgramTest {};

TEST_F(BadModelDirectory, MissingIsAnInputOutputError) {
  const std::string hint = "plumb does not download models";
  expect_refused(sft(0, {{"model", "absent"}}), 74, {"absent: cannot open the model directory", hint});
  expect_refused(sft(0, {{"model", "rows.jsonl"}}), 74, {"rows.jsonl: cannot open the model directory", hint});
}

TEST_F(BadModelDirectory, PickledWeightsAreNeverRead) {
  fs::rename(directory_ / "model/model.safetensors", directory_ / "model/pytorch_model.bin");
  expect_refused(sft(0), 65, {"got pytorch_model.bin", "never read"});
}

/// Cuts a matrix of 32 columns to its first rows.
void cut_rows(Model& model, const char* tensor, size_t num_rows) {
  ordered_json header = model.header();
  const auto begin = header[tensor]["data_offsets"][0].get<size_t>();
  const auto end = header[tensor]["data_offsets"][1].get<size_t>();
  const size_t kept = num_rows * 32 * sizeof(float), lost = end - begin - kept;
  model.weights.erase(8 + model.header_bytes() + begin + kept, lost);
  for (auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    for (auto& offset : entry["data_offsets"])
      if (offset.get<size_t>() >= end) offset = offset.get<size_t>() - lost;
  }
  header[tensor]["shape"] = {num_rows, 32};
  model.set_header(header.dump());
}

TEST_F(BadModelDirectory, TokenIdBeyondTheEmbeddingIsRefusedWithItsRow) {
  Model model{directory_.read("model/config.json"), "", directory_.read("model/model.safetensors")};
  model.set("vocab_size", 100);
  model.set("eos_token_id", nullptr);  // would be out of range too
  cut_rows(model, kEmbedding, 100);
  cut_rows(model, "lm_head.weight", 100);
  directory_.write("model/config.json", model.config);
  directory_.write("model/model.safetensors", model.weights);
  expect_refused(
      sft(0), 65,
      {"rows.jsonl:1: row 0: expected token ids below 100, the rows of the embedding", "larger than the model"});
}

}  // namespace
}  // namespace plumb::test
