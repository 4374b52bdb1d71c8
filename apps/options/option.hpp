// An option is declared once, beside the struct that it fills: name, group, type, range, choices, help, the stages that
// have it, and whether it may change when a run is resumed. Parsing, checks, --help, shell completion, the man page and
// the comparison of a resumed run with its first start all read that declaration. Names and defaults are TRL's and
// Hugging Face's own.
#pragma once

#include <fmt/ranges.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "apps/options/stage.hpp"
#include "lib/base/named.hpp"

namespace plumb {

/// The sections of --help, in its order.
enum class OptionGroup {
  kModel,
  kData,
  kOutput,
  kSchedule,
  kOptimizer,
  kMemory,
  kEvaluation,
  kCheckpoints,
  kRobustness,
  kLora,
  kObjective,
  kPairs,
  kRewards,
  kSampling,
  kPlan,
  kGeneral,
};
template <>
inline constexpr auto kNames<OptionGroup> =
    std::to_array<Named<OptionGroup>>({{"Model", OptionGroup::kModel},
                                       {"Data", OptionGroup::kData},
                                       {"Output", OptionGroup::kOutput},
                                       {"Schedule", OptionGroup::kSchedule},
                                       {"Optimizer", OptionGroup::kOptimizer},
                                       {"Memory and speed", OptionGroup::kMemory},
                                       {"Evaluation and logging", OptionGroup::kEvaluation},
                                       {"Checkpoints", OptionGroup::kCheckpoints},
                                       {"Robustness", OptionGroup::kRobustness},
                                       {"LoRA", OptionGroup::kLora},
                                       {"Objective", OptionGroup::kObjective},
                                       {"Preference pairs", OptionGroup::kPairs},
                                       {"Rewards", OptionGroup::kRewards},
                                       {"Sampling", OptionGroup::kSampling},
                                       {"Plan", OptionGroup::kPlan},
                                       {"General", OptionGroup::kGeneral}});

/// Whether a run that is resumed may have another value than its first start.
enum class OnResume {
  kMustMatch,    // it changes the model or what is measured of it
  kMayChange,    // the change is logged
  kMayGrow,      // a longer run continues from the end of the shorter one
  kNotCompared,  // where files are, whose contents are compared instead, or how a run is started
  kSameBatch,    // may change where a step keeps its rows
};

/// The numbers that an option takes. Without limits: any finite number.
struct ValueRange {
  double least = std::numeric_limits<double>::lowest();
  double most = std::numeric_limits<double>::max();
  bool excludes_least = false;
  bool excludes_most = false;

  /// False for NaN.
  bool contains(double value) const;
  /// "1 to 100", "more than 0", "" without limits.
  std::string text() const;
};
constexpr ValueRange at_least(double least) { return {.least = least}; }
constexpr ValueRange at_most(double most) { return {.most = most}; }
constexpr ValueRange between(double least, double most) { return {least, most}; }
constexpr ValueRange above(double least, double most = std::numeric_limits<double>::max()) {
  return {least, most, /*excludes_least=*/true};
}
constexpr ValueRange from_to_below(double least, double most) { return {least, most, false, /*excludes_most=*/true}; }
/// Also takes infinity, where it means "no limit".
constexpr ValueRange or_infinite(ValueRange range) {
  range.most = std::numeric_limits<double>::infinity();
  return range;
}

/// The rest of a declaration, besides name, group, type and help.
struct OptionRules {
  ValueRange range = {};
  OnResume on_resume = OnResume::kMustMatch;
  StageSet stages = kAllStages;
  std::string_view value_name = {};       // in --help: "DIR", "FILE"; "": by the type
  std::vector<std::string> choices = {};  // of a text that may also be ""; an enum has those of its table
};

struct Option {
  std::string name;
  OptionGroup group = OptionGroup::kGeneral;
  std::string help;
  std::string value_name;
  std::string default_text;  // "": none
  std::vector<std::string> choices = {};
  ValueRange range = {};
  bool is_flag = false;  // true or false; the name alone means true
  bool is_list = false;
  OnResume on_resume = OnResume::kMustMatch;
  StageSet stages = kAllStages;
};

/// An option and the variable that it fills, which must outlive this.
struct BoundOption {
  Option option;
  /// Reads the values, one unless it is a list, checks them, and fills the variable. Returns the text that run.json
  /// records. Throws UsageError.
  std::function<std::string(const std::vector<std::string>& values)> set;
};

std::vector<Option> options_of(const std::vector<BoundOption>& bound);
std::vector<std::string> names_of(const std::vector<Option>& options);
const Option* find_option(const std::vector<Option>& options, std::string_view name);

/// Items of "a b", "a,b" and several words alike.
std::vector<std::string> split_items(const std::vector<std::string>& words);

// The text of a value, and its value again. read_value() throws UsageError that names the option.
std::string value_text(bool value);
std::string value_text(int value);
std::string value_text(int64_t value);
std::string value_text(double value);
std::string value_text(const std::string& value);
void read_value(const Option& option, const std::string& text, bool& value);
void read_value(const Option& option, const std::string& text, int& value);
void read_value(const Option& option, const std::string& text, int64_t& value);
void read_value(const Option& option, const std::string& text, double& value);
void read_value(const Option& option, const std::string& text, std::string& value);

template <NamedEnum E>
std::string value_text(E value) {
  return std::string(name_of(value));
}
template <NamedEnum E>
void read_value(const Option& option, const std::string& text, E& value) {
  value = value_named<E>(text, option.name);
}

template <class T>
std::string value_text(const std::optional<T>& value) {
  return value ? value_text(*value) : "";
}
template <class T>
void read_value(const Option& option, const std::string& text, std::optional<T>& value) {
  read_value(option, text, value.emplace());
}

namespace option_types {

template <class T>
inline constexpr bool kIsList = false;
template <class T>
inline constexpr bool kIsList<std::vector<T>> = true;

template <class T>
struct Element {
  using Type = T;
};
template <class T>
struct Element<std::vector<T>> {
  using Type = T;
};
template <class T>
struct Element<std::optional<T>> {
  using Type = T;
};

}  // namespace option_types

/// Declares an option whose value is handed to `set`.
template <class T>
BoundOption declare_with(std::string_view name, OptionGroup group, const T& initial, std::function<void(T)> set,
                         std::string_view help, const OptionRules& rules = {}) {
  using E = typename option_types::Element<T>::Type;
  Option option{.name = std::string(name),
                .group = group,
                .help = std::string(help),
                .value_name = std::string(rules.value_name),
                .default_text = {},
                .choices = rules.choices,
                .range = rules.range,
                .is_flag = std::is_same_v<E, bool>,
                .is_list = option_types::kIsList<T>,
                .on_resume = rules.on_resume,
                .stages = rules.stages};
  if constexpr (NamedEnum<E>) option.choices = names_of<E>();
  if (option.value_name.empty())
    option.value_name = option.is_flag                ? "true|false"
                        : NamedEnum<E>                ? "NAME"
                        : std::is_floating_point_v<E> ? "NUMBER"
                        : std::is_integral_v<E>       ? "N"
                                                      : "TEXT";
  if constexpr (option_types::kIsList<T>) {
    std::vector<std::string> texts;
    for (const E& value : initial) texts.push_back(value_text(value));
    option.default_text = fmt::format("{}", fmt::join(texts, " "));
    return {option, [option, set](const std::vector<std::string>& words) {
              T values;
              // paths may hold blanks and commas
              for (const std::string& item : std::is_same_v<E, std::string> ? words : split_items(words))
                read_value(option, item, values.emplace_back());
              set(std::move(values));
              return fmt::format("{}", fmt::join(words, " "));
            }};
  } else {
    option.default_text = value_text(initial);
    return {option, [option, set](const std::vector<std::string>& words) {
              T value = {};
              read_value(option, words.at(0), value);
              std::string text = NamedEnum<E> ? words[0] : value_text(value);
              set(std::move(value));
              return text;
            }};
  }
}

/// Declares an option that fills `target`, whose value is the default.
template <class T>
BoundOption declare(std::string_view name, OptionGroup group, T& target, std::string_view help,
                    const OptionRules& rules = {}) {
  return declare_with<T>(
      name, group, target, [&target](T value) { target = std::move(value); }, help, rules);
}

}  // namespace plumb
