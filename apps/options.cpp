#include "apps/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>

#include "lib/base/check.hpp"
#include "lib/optim/schedule.hpp"

namespace plumb {

namespace po = boost::program_options;

namespace {

template <class T>
auto* with_default(T& target) {
  return po::value<T>(&target)->default_value(target);
}
template <>
auto* with_default(std::string& target) {
  return po::value<std::string>(&target)->default_value(target, target.empty() ? "none" : target);
}
template <>
auto* with_default(double& target) {
  return po::value<double>(&target)->default_value(target, fmt::format("{}", target));
}

std::vector<std::string> names_of(const OptionsDescription& description) {
  std::vector<std::string> names;
  for (const auto& option : description.options()) names.push_back(option->long_name());
  return names;
}

bool is_boolean_word(const std::string& word) {
  return word == "true" || word == "false" || word == "1" || word == "0" || word == "yes" || word == "no";
}

/// `--some-option` is `--some_option`; a boolean without a value means true.
std::vector<std::string> normalise(const OptionsDescription& description, std::vector<std::string> arguments) {
  std::vector<std::string> result;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string& argument = arguments[i];
    if (!argument.starts_with("--")) {
      result.push_back(argument);
      continue;
    }
    const size_t end = std::min(argument.find('='), argument.size());
    std::replace(argument.begin() + 2, argument.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
    const std::string name = argument.substr(2, end - 2);
    const auto* option = description.find_nothrow(name, false);
    const bool is_boolean = option && dynamic_cast<const po::typed_value<bool>*>(option->semantic().get());
    result.push_back(argument);
    if (is_boolean && end == argument.size() && (i + 1 == arguments.size() || !is_boolean_word(arguments[i + 1])))
      result.back() += "=true";
  }
  return result;
}

[[noreturn]] void throw_unknown(const OptionsDescription& description, const std::string& name) {
  const std::vector<std::string> names = names_of(description);
  const std::string nearest = nearest_name(name, names);
  throw_error<UsageError>("unknown option --{}{}", name, nearest.empty() ? "" : "; did you mean --" + nearest + "?");
}

void check_range(bool holds, std::string_view name, std::string_view expected, double got) {
  if (!holds) throw_error<UsageError>("--{}: expected {}, got {}", name, expected, got);
}

}  // namespace

void declare(OptionsDescription& description, ModelOptions& o) {
  description.add_options()("model", po::value(&o.model), "Hugging Face model directory")(
      "dtype", with_default(o.dtype), "float32 or bfloat16: of activations, gathered weights and the wire")(
      "threads", with_default(o.threads), "threads per rank; 0: the node's cores divided by its ranks");
}

void declare(OptionsDescription& description, DataOptions& o) {
  description.add_options()("data", po::value(&o.data)->multitoken(), "files of rows: .csv .tsv .jsonl .json")(
      "columns", with_default(o.columns), "role=name,...: which column plays which role")(
      "chat_template", with_default(o.chat_template),
      "chatml, llama2, llama3, mistral, zephyr, alpaca or instructgpt; none: the model's own")(
      "max_length", with_default(o.max_length), "tokens of a row; the rest is cut off; 0: no limit")(
      "completion_only_loss", po::value<bool>()->notifier([&o](bool value) { o.completion_only_loss = value; }),
      "train the completion only (default: true where rows have a prompt)")(
      "assistant_only_loss", with_default(o.assistant_only_loss), "train the assistant's turns only")(
      "parse_special_tokens", with_default(o.parse_special_tokens),
      "control tokens spelled out in the data become control tokens (TRL does so)");
}

void declare(OptionsDescription& description, TrainOptions& o) {
  declare(description, o.model);
  declare(description, o.data);
  description.add_options()("eval_data", po::value(&o.eval_data)->multitoken(), "files of rows to evaluate on")(
      "output_dir", po::value(&o.output_dir), "where the run is written")(
      "overwrite_output_dir", with_default(o.overwrite_output_dir), "replace a run that is there")(
      "seed", with_default(o.seed), "of the order of rows")("shuffle", with_default(o.shuffle),
                                                            "false: rows in file order")(
      "dataloader_drop_last", with_default(o.dataloader_drop_last), "drop the last, shorter batch of an epoch")(
      "per_device_train_batch_size", with_default(o.per_device_train_batch_size), "rows of a micro-batch")(
      "per_device_eval_batch_size", with_default(o.per_device_eval_batch_size), "rows of a micro-batch of evaluation")(
      "gradient_accumulation_steps", with_default(o.gradient_accumulation_steps), "micro-batches per rank and step")(
      "num_train_epochs", with_default(o.num_train_epochs), "passes over the data")(
      "max_steps", with_default(o.max_steps), "steps in all; overrides num_train_epochs when above 0")(
      "learning_rate", with_default(o.learning_rate), "peak")("lr_scheduler_type", with_default(o.lr_scheduler_type),
                                                              "linear, cosine, constant or constant_with_warmup")(
      "warmup_steps", with_default(o.warmup_steps), "steps from 0 to the peak; below 1: a share of all steps")(
      "weight_decay", with_default(o.weight_decay), "of matrices; norms and biases have none")(
      "adam_beta1", with_default(o.adam_beta1), "")("adam_beta2", with_default(o.adam_beta2), "")(
      "adam_epsilon", with_default(o.adam_epsilon), "")("max_grad_norm", with_default(o.max_grad_norm),
                                                        "gradients are clipped to this norm; 0: not at all")(
      "loss_type", with_default(o.loss_type), "nll or dft")("logging_steps", with_default(o.logging_steps),
                                                            "steps between lines of metrics")(
      "eval_steps", with_default(o.eval_steps), "steps between evaluations; 0: after each epoch")(
      "gradient_checkpointing", with_default(o.gradient_checkpointing),
      "recompute blocks in backward instead of keeping their activations")(
      "reduction", with_default(o.reduction), "canonical: same bits on any number of ranks; fast: less memory")(
      "save_dtype", with_default(o.save_dtype), "float32 or bfloat16: of the exported model");
}

bool parse_options(const std::string& usage, OptionsDescription& description, const std::vector<std::string>& required,
                   std::vector<std::string> arguments) {
  std::string config_file;
  description.add_options()("config", po::value(&config_file), "INI file of further options")("help", "this text");
  po::variables_map values;
  try {
    const auto parsed = po::command_line_parser(normalise(description, std::move(arguments)))
                            .options(description)
                            .positional({})
                            .style(po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                                   po::command_line_style::long_allow_next)
                            .run();
    po::store(parsed, values);
    if (values.count("help")) {
      std::cout << "usage: " << usage << "\n\n" << description;
      return false;
    }
    if (values.count("config")) {
      const auto path = values["config"].as<std::string>();
      std::ifstream file(path);
      if (!file) throw_error<UsageError>("--config {}: cannot be read", path);
      po::store(po::parse_config_file(file, description), values);
    }
    po::notify(values);
  } catch (const po::unknown_option& error) {
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    throw_unknown(description, name);
  } catch (const po::too_many_positional_options_error&) {
    throw_error<UsageError>("an argument without an option before it; usage: {}", usage);
  } catch (const po::error& error) {
    throw UsageError(error.what());
  }
  for (const std::string& name : required)
    if (!values.count(name)) throw_error<UsageError>("--{} is required; usage: {}", name, usage);
  return true;
}

void validate(const TrainOptions& o) {
  const auto at_least = [](int64_t value, int64_t least, std::string_view name) {
    check_range(value >= least, name, fmt::format("at least {}", least), static_cast<double>(value));
  };
  const auto between_1_and = [](int64_t most, int64_t value, std::string_view name) {
    check_range(value >= 1 && value <= most, name, fmt::format("1 to {}", most), static_cast<double>(value));
  };
  between_1_and(1'000'000, o.per_device_train_batch_size, "per_device_train_batch_size");
  between_1_and(1'000'000, o.per_device_eval_batch_size, "per_device_eval_batch_size");
  between_1_and(1'000'000, o.gradient_accumulation_steps, "gradient_accumulation_steps");
  at_least(o.logging_steps, 1, "logging_steps");
  at_least(o.eval_steps, 0, "eval_steps");
  check_range(o.data.max_length >= 0 && o.data.max_length <= 1'000'000'000, "max_length", "0 to 1000000000",
              static_cast<double>(o.data.max_length));
  check_range(o.max_steps <= 1'000'000'000, "max_steps", "at most 1000000000", static_cast<double>(o.max_steps));
  check_range(o.num_train_epochs <= 1e6, "num_train_epochs", "at most 1000000", o.num_train_epochs);
  at_least(o.model.threads, 0, "threads");
  at_least(o.seed, 0, "seed");
  check_range(o.max_steps > 0 || (std::isfinite(o.num_train_epochs) && o.num_train_epochs > 0), "num_train_epochs",
              "more than 0", o.num_train_epochs);
  check_range(std::isfinite(o.learning_rate) && o.learning_rate >= 0, "learning_rate", "0 or more", o.learning_rate);
  check_range(o.warmup_steps >= 0 && (o.warmup_steps < 1 || o.warmup_steps == std::floor(o.warmup_steps)),
              "warmup_steps", "a whole number of steps, or a share below 1", o.warmup_steps);
  check_range(std::isfinite(o.weight_decay) && o.weight_decay >= 0, "weight_decay", "0 or more", o.weight_decay);
  check_range(o.adam_beta1 >= 0 && o.adam_beta1 < 1, "adam_beta1", "0 to below 1", o.adam_beta1);
  check_range(o.adam_beta2 >= 0 && o.adam_beta2 < 1, "adam_beta2", "0 to below 1", o.adam_beta2);
  check_range(o.adam_epsilon > 0, "adam_epsilon", "more than 0", o.adam_epsilon);
  check_range(o.max_grad_norm >= 0, "max_grad_norm", "0 or more", o.max_grad_norm);
  const auto one_of = [](const std::string& value, const std::vector<std::string>& known, std::string_view name) {
    if (std::find(known.begin(), known.end(), value) != known.end()) return;
    const std::string nearest = nearest_name(value, known);
    throw_error<UsageError>("--{} {}: expected one of {}{}", name, value, fmt::join(known, ", "),
                            nearest.empty() ? "" : "; did you mean " + nearest + "?");
  };
  one_of(o.model.dtype, {"float32", "bfloat16"}, "dtype");
  one_of(o.reduction, {"canonical", "fast"}, "reduction");
  one_of(o.loss_type, {"nll", "chunked_nll", "dft"}, "loss_type");
  one_of(o.save_dtype, {"float32", "bfloat16"}, "save_dtype");
  parse_schedule(o.lr_scheduler_type);
}

std::vector<std::pair<std::string, std::string>> option_values(const TrainOptions& options) {
  // a copy is declared and read back, so that no name is written a second time
  TrainOptions copy = options;
  OptionsDescription description;
  declare(description, copy);
  std::vector<std::pair<std::string, std::string>> values;
  for (const auto& option : description.options()) {
    boost::any value;
    std::string text;
    if (option->semantic()->apply_default(value)) {
      if (const auto* s = boost::any_cast<std::string>(&value)) text = *s;
      if (const auto* b = boost::any_cast<bool>(&value)) text = *b ? "true" : "false";
      if (const auto* i = boost::any_cast<int64_t>(&value)) text = std::to_string(*i);
      if (const auto* n = boost::any_cast<int>(&value)) text = std::to_string(*n);
      if (const auto* d = boost::any_cast<double>(&value)) text = fmt::format("{}", *d);
    } else if (option->long_name() == "data") {
      text = fmt::format("{}", fmt::join(options.data.data, " "));
    } else if (option->long_name() == "eval_data") {
      text = fmt::format("{}", fmt::join(options.eval_data, " "));
    } else if (option->long_name() == "model") {
      text = options.model.model;
    } else if (option->long_name() == "output_dir") {
      text = options.output_dir;
    } else if (options.data.completion_only_loss) {
      text = *options.data.completion_only_loss ? "true" : "false";
    }
    values.emplace_back(option->long_name(), text);
  }
  return values;
}

}  // namespace plumb
