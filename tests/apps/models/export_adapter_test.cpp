// An adapter exported by all ranks: complete, and the same bytes on any number of ranks.
#include <gtest/gtest.h>

#include <filesystem>

#include "apps/models/model_setup.hpp"
#include "io/huggingface/peft_adapter.hpp"
#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/shared_directory.hpp"

namespace plumb {
namespace {

LoraConfig some_config() {
  return {.r = 3, .lora_alpha = 6, .target_modules = {{"down_proj", "q_proj"}, ""}, .modules_to_save = {"lm_head"}};
}

std::vector<float> values_of(const UnitLayout& unit, ElementRange range) {
  std::vector<float> values(range.size(), 0.0f);
  for (const Parameter& parameter : unit.parameters)
    for (int64_t i = std::max(range.begin, parameter.offset);
         i < std::min(range.end, parameter.offset + parameter.num_elements()); ++i)
      values[i - range.begin] = 0.5f + static_cast<float>(i);
  return values;
}

TEST(ExportAdapter, HoldsTheShardsOfAllRanks) {
  const Communicator comm;
  const SharedDirectory directory(comm);
  const ModelConfig model = tiny_config(Family::kLlama, false);
  const ShardLayout unit(adapter_layout(model, resolve_adapter(some_config(), model)), comm.size());
  const std::string path = directory.path() + "/adapter";
  for (int run = 0; run < 2; ++run)  // the second replaces the first
    export_adapter(comm, unit, values_of(unit.unit(), unit.shard(comm.rank())), path, some_config(), model, {});
  comm.barrier();
  const PeftAdapter adapter(path, model);
  EXPECT_EQ(adapter.config(), some_config());
  const ElementRange whole = {0, unit.unit().num_elements};
  std::vector<float> values(whole.size());
  adapter.read_range(whole.begin, whole.end, values);
  EXPECT_EQ(values, values_of(unit.unit(), whole));
  // the bytes that one rank writes
  const std::string alone = directory.path() + "/alone";
  if (comm.rank() == 0) {
    const Communicator self(0, MPI_COMM_SELF);
    const ShardLayout all(unit.unit(), 1);
    export_adapter(self, all, values_of(unit.unit(), all.shard(0)), alone, some_config(), model, {});
    for (const char* name : {"/adapter_model.safetensors", "/adapter_config.json"})
      EXPECT_EQ(read_text_file(path + name, 1 << 20), read_text_file(alone + name, 1 << 20));
  }
  comm.barrier();
}

TEST(ExportAdapter, LeavesNoFilesIfARankHoldsNaN) {
  const Communicator comm;
  const SharedDirectory directory(comm);
  const ModelConfig model = tiny_config(Family::kLlama, false);
  const ShardLayout unit(adapter_layout(model, resolve_adapter(some_config(), model)), comm.size());
  std::vector<float> values = values_of(unit.unit(), unit.shard(comm.rank()));
  if (comm.rank() == 0) values[0] = std::nanf("");
  EXPECT_THROW(export_adapter(comm, unit, values, directory.path() + "/adapter", some_config(), model, {}),
               AgreedError);
  comm.barrier();
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  comm.barrier();
}

}  // namespace
}  // namespace plumb
