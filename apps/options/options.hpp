// The options that most commands share: the model, its rows, and threads. Those of training are in train_options.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/command.hpp"
#include "apps/options/option.hpp"
#include "apps/options/settings.hpp"
#include "lib/base/precision.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"

namespace plumb {

struct ModelOptions {
  std::string model;
  Precision dtype = Precision::kFloat32;
  int threads = 0;  // per rank; 0: cores of the node / its ranks
};

struct DataOptions {
  std::vector<std::string> data;        // files, or patterns that match files until with_files() has found them
  std::vector<int64_t> files_per_item;  // how many files each item of data was; set by with_files()
  std::string columns;
  std::string chat_template;
  std::string eos_token;  // "": the tokenizer's own
  int64_t max_length = 1024;
  bool parse_special_tokens = false;
  // of rows for SFT
  std::optional<bool> completion_only_loss;
  bool assistant_only_loss = false;
};

// Each of these declares options of its name, bound to the argument.
BoundOption threads_option(int& threads);
BoundOption chat_template_option(std::string& chat_template, std::string_view help);
BoundOption eos_token_option(std::string& eos_token);
BoundOption overwrite_option(bool& overwrite, std::string_view help);
BoundOption eval_batch_size_option(int64_t& batch_size);
BoundOption merged_adapter_option(std::string& adapter);
std::vector<BoundOption> bind_options(ModelOptions& options);
std::vector<BoundOption> bind_options(DataOptions& options);

void append(std::vector<BoundOption>& options, std::vector<BoundOption> more);

SftOptions sft_options(const DataOptions& options);
/// drops_long_pairs: as a reward model needs whole texts; otherwise they are truncated.
PairOptions pair_options(const DataOptions& options, bool drops_long_pairs);

}  // namespace plumb
