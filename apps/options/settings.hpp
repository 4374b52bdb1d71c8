// Settings are options as somebody gave them: on the command line, in an INI file, in run.json, or made by plumb auto.
// Each of these only produces settings; parse() alone turns them into values.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apps/options/option.hpp"

namespace plumb {

struct Setting {
  std::string name;
  std::string value;
  std::string where =
      {};  // begins messages: "run.ini: line 3: ", "line 3: " in a pipeline file; "" on the command line

  /// Where it was given does not count.
  bool operator==(const Setting& other) const { return name == other.name && value == other.value; }
};
/// A list has a setting for each item.
using Settings = std::vector<Setting>;

bool has_setting(const Settings& settings, std::string_view name);
/// The value of the first one; "" without one.
std::string find_setting(const Settings& settings, std::string_view name);
/// `winners`, and those of `others` whose options `winners` does not have.
Settings override_settings(Settings winners, const Settings& others);

/// The settings of a command line. With `--config FILE.ini`, also those of the file, which the command line overrides.
/// `-` is accepted for `_` in names. `positional`: the option whose name may be left out before the first value; "":
/// none. Throws UsageError for an unknown option, with the nearest known name, and for an argument without an option.
Settings read_command_line(const std::vector<Option>& options, std::vector<std::string> arguments,
                           const std::string& positional, const std::string& usage);

/// Name and value, as text that may be written down: without secrets.
using OptionTexts = std::vector<std::pair<std::string, std::string>>;

/// Fills the variables. Returns every option with the value that it then has. Throws UsageError for an unknown option,
/// for one that is given twice, and for values of the wrong type, out of range or not among the choices.
OptionTexts parse(const std::vector<BoundOption>& options, const Settings& settings);

/// "run.ini: line 3: unknown option --x; did you mean --y?"
[[noreturn]] void throw_unknown_option(const Setting& setting, const std::vector<std::string>& known);

/// --config FILE, which every command has.
Option config_option();

/// Seconds of "5400", "90:00" or "1:30:00". Throws UsageError that names the option.
double parse_duration(const std::string& text, std::string_view option);

}  // namespace plumb
