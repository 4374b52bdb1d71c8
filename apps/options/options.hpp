// How the options of a command become a struct: each is declared once, with name, type, default and help, beside the
// struct that it fills. Names and defaults are TRL's and Hugging Face's own; `-` is accepted for `_`.
// Here: the machinery, and what nearly every command takes. Those of training are in train_options.hpp.
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/precision.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"

namespace plumb {

using OptionsDescription = boost::program_options::options_description;

/// An option whose default is what its target holds.
template <class T>
auto* with_default(T& target) {
  return boost::program_options::value<T>(&target)->default_value(target);
}
template <>
inline auto* with_default(std::string& target) {
  return boost::program_options::value<std::string>(&target)->default_value(target, target.empty() ? "none" : target);
}
boost::program_options::typed_value<double>* with_default(double& target);

/// A choice by name.
template <NamedEnum E>
auto* choice(E& target, const char* option) {
  const std::string name(name_of(target));
  return boost::program_options::value<std::string>()->default_value(name)->notifier(
      [&target, option](const std::string& text) { target = value_named<E>(text, option); });
}

struct ModelOptions {
  std::string model;
  Precision dtype = Precision::kFloat32;
  int threads = 0;  // per rank; 0: cores of the node / its ranks
};

struct DataOptions {
  std::vector<std::string> data;
  std::string columns;
  std::string chat_template;
  int64_t max_length = 1024;
  bool parse_special_tokens = false;
  // of rows to fine-tune on
  std::optional<bool> completion_only_loss;
  bool assistant_only_loss = false;
};

void declare_threads(OptionsDescription& description, int& threads);
void declare(OptionsDescription& description, ModelOptions& options);
/// has_sft_options: false where rows are pairs, which have no prompt to train on.
void declare(OptionsDescription& description, DataOptions& options, bool has_sft_options = true);

SftOptions sft_options(const DataOptions& options);
/// drops_long_pairs: as a reward model needs whole texts; otherwise they are cut off.
PairOptions pair_options(const DataOptions& options, bool drops_long_pairs);

/// Name and value, as text that may be written down: without secrets.
using OptionTexts = std::vector<std::pair<std::string, std::string>>;

/// Fills what was declared from the command line and, with `--config FILE.ini`, from that file; the command line wins.
/// Returns false if help was asked for, and printed. `required` options must be given. `texts`, where there is one,
/// gets every option with the value it has. Throws UsageError for anything unknown, with the nearest known name, and
/// for values of the wrong type.
bool parse_options(const std::string& usage, OptionsDescription& description, const std::vector<std::string>& required,
                   std::vector<std::string> arguments, OptionTexts* texts = nullptr);

/// "unknown option --x; did you mean --y?"
[[noreturn]] void throw_unknown_option(const std::string& name, const std::vector<std::string>& known);

std::vector<std::string> names_of(const OptionsDescription& description);

// Throw UsageError, naming the option.
void check_range(bool holds, std::string_view name, std::string_view expected, double got);
void check_one_of(const std::string& value, const std::vector<std::string>& known, std::string_view name);

/// Seconds of "5400", "90:00" or "1:30:00". Throws UsageError that names the option.
double parse_duration(const std::string& text, std::string_view option);

}  // namespace plumb
