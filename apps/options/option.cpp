#include "apps/options/option.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr double kLargestPlain = 1e15;  // whole numbers up to here are written without an exponent

std::string number_text(double value) {
  if (std::abs(value) < kLargestPlain && value == std::floor(value)) return fmt::format("{:.0f}", value);
  return fmt::format("{}", value);
}

void check_range(const Option& option, double value) {
  if (option.range.contains(value)) return;
  const std::string expected = option.range.text();
  throw_error<UsageError>("--{}: expected {}, got {}", option.name, expected.empty() ? "a finite number" : expected,
                          number_text(value));
}

template <class T>
void read_number(const Option& option, const std::string& text, std::string_view expected, T& value) {
  const char *begin = text.data(), *end = begin + text.size();
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') ++begin;
  const auto read = std::from_chars(begin, end, value);
  if (read.ec != std::errc() || read.ptr != end)
    throw_error<UsageError>("--{}: expected {}, got '{}'", option.name, expected, text);
  check_range(option, static_cast<double>(value));
}

}  // namespace

bool ValueRange::contains(double value) const {
  return (excludes_least ? value > least : value >= least) && (excludes_most ? value < most : value <= most);
}

std::string ValueRange::text() const {
  const bool has_least = least != std::numeric_limits<double>::lowest();
  const bool has_most = most < std::numeric_limits<double>::max();
  if (!has_least && !has_most) return "";
  if (!has_least) return fmt::format("at most {}", number_text(most));
  if (!has_most) return fmt::format(fmt::runtime(excludes_least ? "more than {}" : "{} or more"), number_text(least));
  if (excludes_least) return fmt::format("more than {}, at most {}", number_text(least), number_text(most));
  return fmt::format("{} to {}{}", number_text(least), excludes_most ? "below " : "", number_text(most));
}

std::vector<Option> options_of(const std::vector<BoundOption>& bound) {
  std::vector<Option> options;
  for (const BoundOption& each : bound) options.push_back(each.option);
  return options;
}

std::vector<std::string> names_of(const std::vector<Option>& options) {
  std::vector<std::string> names;
  for (const Option& option : options) names.push_back(option.name);
  return names;
}

const Option* find_option(const std::vector<Option>& options, std::string_view name) {
  const auto found = std::find_if(options.begin(), options.end(), [&](const Option& o) { return o.name == name; });
  return found == options.end() ? nullptr : &*found;
}

std::vector<std::string> split_items(const std::vector<std::string>& words) {
  std::vector<std::string> items;
  for (std::string word : words) {
    std::replace(word.begin(), word.end(), ',', ' ');
    std::istringstream stream(word);
    for (std::string item; stream >> item;) items.push_back(item);
  }
  return items;
}

std::string value_text(bool value) { return value ? "true" : "false"; }
std::string value_text(int value) { return std::to_string(value); }
std::string value_text(int64_t value) { return std::to_string(value); }
std::string value_text(double value) { return fmt::format("{}", value); }
std::string value_text(const std::string& value) { return value; }

void read_value(const Option& option, const std::string& text, bool& value) {
  std::string word = text;
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto is_one_of = [&](std::initializer_list<const char*> words) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  value = is_one_of({"", "true", "1", "yes", "on"});
  if (!value && !is_one_of({"false", "0", "no", "off"}))
    throw_error<UsageError>("--{}: expected true or false, got '{}'", option.name, text);
}

void read_value(const Option& option, const std::string& text, int& value) {
  read_number(option, text, "a whole number", value);
}
void read_value(const Option& option, const std::string& text, int64_t& value) {
  read_number(option, text, "a whole number", value);
}
void read_value(const Option& option, const std::string& text, double& value) {
  read_number(option, text, "a number", value);
}

void read_value(const Option& option, const std::string& text, std::string& value) {
  const bool is_choice = option.choices.empty() || text.empty() ||
                         std::find(option.choices.begin(), option.choices.end(), text) != option.choices.end();
  if (!is_choice) throw_not_one_of(option.name, text, option.choices);
  value = text;
}

}  // namespace plumb
