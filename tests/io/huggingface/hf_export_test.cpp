#include "io/huggingface/hf_export.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/file/atomic_directory.hpp"
#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// Writes all units in ranges of `piece` elements, last range first, because ranks write in any order.
void write_units(const ExportPlan& plan, const std::string& temporary, const HfModel& source, int64_t piece) {
  for (size_t u = 0; u < source.units().size(); ++u) {
    const UnitLayout& unit = source.units()[u];
    const int64_t num_pieces = (unit.num_elements + 50 + piece - 1) / piece;
    for (int64_t i = num_pieces - 1; i >= 0; --i) {
      std::vector<float> values(piece);
      source.read_unit_range(unit, i * piece, (i + 1) * piece, values);
      write_unit_range(plan, temporary, u, i * piece, (i + 1) * piece, values);
    }
  }
}

class Export : public testing::Test {
 protected:
  Export() {
    fs::create_directory(source_path_);
    const TemporaryDirectory made;
    write_tiny_model(made, config_);
    for (const char* name : {"config.json", "model.safetensors"}) fs::copy_file(made / name, source_path_ + "/" + name);
  }
  void add_to_source(const std::string& name, const std::string& text) { directory_.write("source/" + name, text); }
  /// One export from begin to commit.
  void run(Dtype dtype, int64_t max_file_bytes, int64_t piece, const std::string& source = "source") {
    export_with({.tokenizer = {source.empty() ? "" : directory_ / source}}, dtype, max_file_bytes, piece);
  }
  void export_with(const ExportedText& text, Dtype dtype = Dtype::kF32,
                   int64_t max_file_bytes = kDefaultExportFileBytes, int64_t piece = 5000) {
    const HfModel model(source_path_);
    const ExportPlan plan = plan_export(model.units(), dtype, max_file_bytes);
    AtomicDirectory exported(target_path_);
    const std::string temporary = exported.temporary_path();
    create_export_files(plan, temporary);
    write_units(plan, temporary, model, piece);
    finish_export(plan, temporary, config_, text);
    exported.publish();
  }
  json exported(const std::string& name) const { return json::parse(directory_.read("target/" + name)); }
  json exported_config() const { return exported("config.json"); }

  const ModelConfig config_ = tiny_config(Family::kQwen3, false);
  TemporaryDirectory directory_;
  const std::string source_path_ = directory_ / "source", target_path_ = directory_ / "target";
};

TEST_F(Export, Float32RoundTripsForAnySplit) {
  for (const int64_t piece : {37, 64, 5000})
    for (const int64_t max_file_bytes : {int64_t{100}, int64_t{2000}, kDefaultExportFileBytes}) {
      fs::remove_all(target_path_);
      run(Dtype::kF32, max_file_bytes, piece);
      const HfModel source(source_path_), target(target_path_);
      for (const UnitLayout& unit : source.units())
        ASSERT_EQ(read_whole_unit(target, unit), read_whole_unit(source, unit)) << piece << " " << max_file_bytes;
    }
  EXPECT_EQ(directory_.num_entries(), 2u);
}

TEST_F(Export, RoundsToBfloat16) {
  run(Dtype::kBf16, 1500, 37);
  const HfModel source(source_path_), target(target_path_);
  for (const UnitLayout& unit : source.units()) {
    std::vector<float> expected = read_whole_unit(source, unit);
    for (float& value : expected) value = bf16_to_float(float_to_bf16(value));
    EXPECT_EQ(read_whole_unit(target, unit), expected);
    EXPECT_NE(expected, read_whole_unit(source, unit));
  }
  EXPECT_EQ(exported_config().at("dtype"), "bfloat16");
}

TEST_F(Export, OneFileHasNoIndex) {
  run(Dtype::kF32, kDefaultExportFileBytes, 5000);
  EXPECT_TRUE(fs::exists(target_path_ + "/model.safetensors"));
  EXPECT_FALSE(fs::exists(target_path_ + "/model.safetensors.index.json"));
  EXPECT_EQ(SafetensorsFile(target_path_ + "/model.safetensors").metadata().at("format"), "pt");
}

TEST_F(Export, SeveralFilesHaveAnIndex) {
  run(Dtype::kF32, 2000, 5000);
  const json index = json::parse(directory_.read("target/model.safetensors.index.json"));
  const int64_t expected_parameters = num_parameters(unit_layouts(config_));
  EXPECT_EQ(index.at("metadata").at("total_size"), expected_parameters * 4);
  EXPECT_EQ(index.at("metadata").at("total_parameters"), expected_parameters);
  EXPECT_EQ(index.at("weight_map").size(), tiny_tensors(config_).size());
  const std::string last = index.at("weight_map").at("lm_head.weight");
  const size_t num_files = static_cast<size_t>(std::stoi(last.substr(last.find("-of-") + 4)));
  EXPECT_EQ(last, fmt::format("model-{0:05}-of-{0:05}.safetensors", num_files));
  EXPECT_GT(num_files, 2u);
}

TEST_F(Export, FilesStayWithinTheSizeLimit) {
  const std::vector<UnitLayout> units = unit_layouts(config_);
  const int64_t limit = 600;
  const ExportPlan plan = plan_export(units, Dtype::kF32, limit);
  std::vector<int64_t> bytes(plan.files.size()), num_tensors(plan.files.size());
  for (const auto& unit : plan.units)
    for (const ExportTensor& tensor : unit) bytes[tensor.file] += tensor.num_elements * 4, ++num_tensors[tensor.file];
  for (size_t i = 0; i < plan.files.size(); ++i) {
    EXPECT_TRUE(bytes[i] <= limit || num_tensors[i] == 1) << plan.files[i].name;
    EXPECT_EQ(plan.files[i].size_bytes, bytes[i] + static_cast<int64_t>(plan.files[i].header.size()));
    EXPECT_GT(num_tensors[i], 0);
  }
  EXPECT_EQ(plan.tensor_bytes, num_parameters(units) * 4);
}

TEST_F(Export, KeepsUnknownKeysOfTheSourceConfig) {
  json source = json::parse(render_model_config(config_, "float32"));
  source.erase("dtype");
  source.update({{"torch_dtype", "float32"}, {"_future_key", {{"a", 1.5}}}, {"architectures", {"Other"}}});
  add_to_source("config.json", source.dump());
  add_to_source("tokenizer.json", "tokens");
  add_to_source("chat_template.jinja", "template");
  add_to_source("optimizer.bin", "not copied");
  run(Dtype::kBf16, kDefaultExportFileBytes, 5000);
  const json config = exported_config();
  EXPECT_EQ(config.at("_future_key").at("a"), 1.5);
  EXPECT_EQ(config.at("torch_dtype"), "bfloat16");
  EXPECT_FALSE(config.contains("dtype"));
  EXPECT_EQ(config.at("architectures"), json::array({"Qwen3ForCausalLM"}));
  EXPECT_EQ(directory_.read("target/tokenizer.json"), "tokens");
  EXPECT_EQ(directory_.read("target/chat_template.jinja"), "template");
  EXPECT_FALSE(fs::exists(target_path_ + "/optimizer.bin"));
}

TEST_F(Export, TextOfTheTrainingReplacesThatOfTheSource) {
  add_to_source("tokenizer_config.json", R"({"eos_token": "</s>", "chat_template": "old", "model_max_length": 8})");
  add_to_source("special_tokens_map.json", R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  add_to_source("generation_config.json", R"({"_from_model_config": true, "eos_token_id": 2, "temperature": 0.5})");
  export_with({.tokenizer = {source_path_, "", "<|end|>"}, .chat_template = "new\n", .eos_id = 4, .turn_end = 5});
  EXPECT_EQ(exported_config().at("eos_token_id"), 4);
  EXPECT_EQ(exported("generation_config.json"), json({{"eos_token_id", {4, 2, 5}}, {"temperature", 0.5}}));
  EXPECT_EQ(exported("tokenizer_config.json"),
            json({{"eos_token", "<|end|>"}, {"additional_special_tokens", {"</s>"}}, {"model_max_length", 8}}));
  EXPECT_EQ(exported("special_tokens_map.json"), json({{"bos_token", "<s>"}, {"eos_token", "<|end|>"}}));
  EXPECT_EQ(directory_.read("target/chat_template.jinja"), "new\n");
}

TEST_F(Export, FurtherTemplatesGoWithTheModel) {
  fs::create_directories(source_path_ + "/additional_chat_templates");
  add_to_source("additional_chat_templates/rag.jinja", "r");
  add_to_source("additional_chat_templates/notes.txt", "n");
  add_to_source("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "d"},
                                                              {"name": "tool_use", "template": "t"}]})");
  export_with({.tokenizer = {source_path_}});
  EXPECT_EQ(directory_.read("target/additional_chat_templates/rag.jinja"), "r");
  EXPECT_FALSE(fs::exists(target_path_ + "/additional_chat_templates/notes.txt"));
  EXPECT_FALSE(fs::exists(target_path_ + "/additional_chat_templates/tool_use.jinja"));  // the list is in place
  fs::remove_all(target_path_);
  export_with({.tokenizer = {source_path_}, .chat_template = "new"});
  EXPECT_EQ(directory_.read("target/chat_template.jinja"), "new");
  EXPECT_EQ(directory_.read("target/additional_chat_templates/rag.jinja"), "r");
  EXPECT_FALSE(fs::exists(target_path_ + "/additional_chat_templates/tool_use.jinja"));  // "new" renders tools, too
  add_to_source("tokenizer_config.json", R"({"chat_template": [{"name": "../x", "template": "t"}]})");
  fs::remove_all(target_path_);
  expect_contains(message_of<DataError>([&] { export_with({.tokenizer = {source_path_}, .chat_template = "new"}); }),
                  {"tokenizer_config.json", "../x"});
}

TEST_F(Export, EndsOfTextAreAddedToAList) {
  json source = json::parse(render_model_config(config_, "float32"));
  source["eos_token_id"] = {2, 7};
  add_to_source("config.json", source.dump());
  export_with({.tokenizer = {source_path_}, .eos_id = 4, .turn_end = 2});
  EXPECT_EQ(exported_config().at("eos_token_id"), json({4, 2, 7}));
  EXPECT_EQ(exported("generation_config.json"), json({{"bos_token_id", 1}, {"eos_token_id", {4, 2}}}));
}

TEST_F(Export, TextThatIsKnownIsCopied) {
  add_to_source("generation_config.json", R"({"_from_model_config": true,   "eos_token_id": [5, 2]})");
  add_to_source("tokenizer_config.json", R"({"eos_token":   "</s>"})");
  export_with({.tokenizer = {source_path_, "", "</s>"}, .eos_id = 2, .turn_end = 5});
  for (const std::string name : {"generation_config.json", "tokenizer_config.json"})
    EXPECT_EQ(directory_.read("target/" + name), directory_.read("source/" + name));
  EXPECT_EQ(exported_config().at("eos_token_id"), 2);
  fs::remove(source_path_ + "/generation_config.json");
  fs::remove_all(target_path_);
  export_with({.tokenizer = {source_path_}, .eos_id = 2, .turn_end = 2});
  EXPECT_FALSE(fs::exists(target_path_ + "/generation_config.json"));
}

TEST_F(Export, RefusesEndsThatAreNoIds) {
  add_to_source("generation_config.json", R"({"eos_token_id": "</s>"})");
  expect_contains(message_of<DataError>([&] { run(Dtype::kF32, kDefaultExportFileBytes, 5000); }),
                  {"generation_config.json", "eos_token_id"});
}

TEST_F(Export, WithoutASourceRendersTheConfig) {
  run(Dtype::kF32, kDefaultExportFileBytes, 5000, "");
  EXPECT_EQ(directory_.read("target/config.json"), render_model_config(config_, "float32"));
}

TEST_F(Export, RefusesTheConfigOfAnotherModel) {
  ModelConfig other = config_;
  other.rope.theta = 5.0;
  add_to_source("config.json", render_model_config(other, "float32"));
  expect_contains(message_of<DataError>([&] { run(Dtype::kF32, kDefaultExportFileBytes, 5000); }),
                  {"source/config.json", "another one"});
  EXPECT_FALSE(fs::exists(target_path_));
}

TEST_F(Export, AppearsOnlyWhenPublished) {
  const ExportPlan plan = plan_export(unit_layouts(config_), Dtype::kF32);
  {
    const AtomicDirectory exported(target_path_);
    create_export_files(plan, exported.temporary_path());
    EXPECT_FALSE(fs::exists(target_path_));
    EXPECT_EQ(fs::file_size(exported.temporary_path() + "/model.safetensors"),
              static_cast<uintmax_t>(plan.files[0].size_bytes));
  }
  EXPECT_EQ(directory_.num_entries(), 1u);
}

TEST_F(Export, FullDiskFailsBeforeAnyWrite) {
  ExportPlan plan = plan_export(unit_layouts(config_), Dtype::kF32);
  plan.files[0].size_bytes = static_cast<int64_t>(fs::space(directory_.path()).free) + (int64_t{1} << 32);
  const AtomicDirectory exported(target_path_);
  expect_contains(message_of<InputOutputError>([&] { create_export_files(plan, exported.temporary_path()); }),
                  {"model.safetensors"});
}

TEST_F(Export, OpensOnlyFilesThatRank0Created) {
  const ExportPlan plan = plan_export(unit_layouts(config_), Dtype::kF32);
  const std::vector<float> values(4);
  expect_contains(message_of<InputOutputError>([&] { write_unit_range(plan, directory_ / "absent", 0, 0, 4, values); }),
                  {"absent/model.safetensors", "No such file"});
}

}  // namespace
}  // namespace plumb
