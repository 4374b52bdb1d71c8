// The options of every command, each declared once: name, type, default and help stand in options.cpp and nowhere else.
// Names and defaults are TRL's and Hugging Face's own; `-` is accepted for `_`.
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace plumb {

struct ModelOptions {
  std::string model;
  std::string dtype = "float32";
  int threads = 0;  // per rank; 0: cores of the node / its ranks
};

struct DataOptions {
  std::vector<std::string> data;
  std::string columns;
  std::string chat_template;
  int64_t max_length = 1024;
  std::optional<bool> completion_only_loss;
  bool assistant_only_loss = false;
  bool parse_special_tokens = false;
};

struct TrainOptions {
  ModelOptions model;
  DataOptions data;
  std::vector<std::string> eval_data;
  std::string output_dir;
  bool overwrite_output_dir = false;
  int64_t seed = 42;
  bool shuffle = true;
  bool dataloader_drop_last = false;
  int64_t per_device_train_batch_size = 8;
  int64_t per_device_eval_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  double num_train_epochs = 3.0;
  int64_t max_steps = -1;
  double learning_rate = 2e-5;
  std::string lr_scheduler_type = "linear";
  double warmup_steps = 0;  // below 1: a share of all steps
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  std::string loss_type = "nll";
  int64_t logging_steps = 10;
  int64_t eval_steps = 0;  // 0: at the end of each epoch
  bool gradient_checkpointing = true;
  std::string reduction = "canonical";
  std::string save_dtype = "float32";  // of the exported model
};

using OptionsDescription = boost::program_options::options_description;

void declare(OptionsDescription& description, ModelOptions& options);
void declare(OptionsDescription& description, DataOptions& options);
void declare(OptionsDescription& description, TrainOptions& options);

/// Fills what was declared from the command line and, with `--config FILE.ini`, from that file; the command line wins.
/// Returns false if help was asked for, and printed. `required` options must be given. Throws UsageError for anything
/// unknown, with the nearest known name, and for values of the wrong type.
bool parse_options(const std::string& usage, OptionsDescription& description, const std::vector<std::string>& required,
                   std::vector<std::string> arguments);

/// Throws UsageError for values out of range or that contradict each other.
void validate(const TrainOptions& options);

/// All options with their values, for run.json: name and text.
std::vector<std::pair<std::string, std::string>> option_values(const TrainOptions& options);

}  // namespace plumb
