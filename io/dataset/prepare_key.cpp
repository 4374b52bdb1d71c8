#include "io/dataset/prepare_key.hpp"

#include "io/dataset/content_hash.hpp"
#include "io/dataset/dataset_index.hpp"
#include "io/dataset/token_shard.hpp"
#include "io/file/file.hpp"
#include "io/file/sha256.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "io/records/record_format.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"

namespace plumb {
namespace {

/// The options that rows of this use depend on.
nlohmann::json describe_options(const PrepareOptions& options) {
  check(options.use != RowUse::kAny, "the use of rows is known when they are prepared");
  if (options.use == RowUse::kPreference) {
    const PairOptions& pair = options.pair;
    return {{"kind", kPairsKind},
            {"max_length", pair.max_length},
            {"drops_long_pairs", pair.drops_long_pairs},
            {"parses_special_tokens", pair.parses_special_tokens}};
  }
  const SftOptions& sft = options.sft;
  return {{"kind", kSftKind},
          {"max_length", sft.max_length},
          {"completion_only_loss",
           sft.completion_only_loss ? nlohmann::json(*sft.completion_only_loss) : nlohmann::json(nullptr)},
          {"assistant_only_loss", sft.assistant_only_loss},
          {"parses_special_tokens", sft.parses_special_tokens}};
}

/// The facts that decide how the tokenizer's files are read, beside their contents.
nlohmann::json describe_reading(const TokenizerSource& source) {
  constexpr int64_t kMaxConfigBytes = 16 << 20;
  nlohmann::json reading = {{"behavior", name_of(source.behavior)}};
  const std::string path = join_path(source.model, "config.json");
  if (!is_regular_file(path)) return reading;
  const nlohmann::json config = parse_json(read_text_file(path, kMaxConfigBytes), path);
  for (const char* key : {"model_type", "tokenizer_class", "transformers_version"})
    if (config.is_object() && config.contains(key)) reading[key] = config[key];
  return reading;
}

}  // namespace

nlohmann::json describe_inputs(const Communicator& comm, const PrepareOptions& options) {
  nlohmann::json files = describe_files(comm, options.files);
  // rank 0 alone looks at names and small files: ranks might see a directory differently for a while
  const std::string text = comm.from_rank0([&] {
    for (size_t i = 0; i < options.files.size(); ++i) {
      files[i]["format"] = describe(find_file_format(options.files[i]));
    }
    nlohmann::json tokenizer = nlohmann::json::array();
    for (const std::string& path : tokenizer_files(options.tokenizer)) {
      tokenizer.push_back({{"file", path.substr(path.find_last_of('/') + 1)}, {"sha256", sha256_of_file(path)}});
    }
    nlohmann::json inputs = describe_options(options);
    inputs["prepare_version"] = kPrepareVersion;
    inputs["dataset_version"] = kDatasetVersion;
    inputs["files"] = files;
    inputs["tokenizer"] = tokenizer;
    inputs["tokenizer_reading"] = describe_reading(options.tokenizer);
    inputs["columns"] = options.columns;
    inputs["template"] = options.template_name;
    if (!options.template_variables.empty()) inputs["template_variables"] = options.template_variables;
    inputs["eos_token"] = options.tokenizer.eos_token;
    return inputs.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  });
  return nlohmann::json::parse(text);
}

std::string key_of(const nlohmann::json& inputs) { return hash_of_text(inputs.dump()); }

}  // namespace plumb
