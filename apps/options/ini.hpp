// INI files, the same dialect for --config and for the file of a pipeline. A line is `name = value`, `[section]` or a
// comment; `#` begins a comment at the beginning of a line or after a blank, `;` at the beginning of a line. A value in
// double quotes is taken literally, with \" and \\ for these two characters. A list takes a line for each item.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/options/settings.hpp"

namespace plumb {

struct IniSection {
  std::string line;   // "[sft]"; "" for the settings before the first section
  std::string where;  // "line 3: "
  Settings settings;
};

/// The settings before the first section, then each section. Throws UsageError with path and line for a line that is
/// none of the above. `-` in names becomes `_`.
std::vector<IniSection> parse_ini(std::string_view text, const std::string& path);

/// `name = value` and a line break, which parse_ini() reads back. Throws UsageError for a value of several lines.
std::string render_setting(const Setting& setting);

/// The settings of --config FILE. Throws UsageError, also where the file cannot be read or has sections.
Settings read_config_file(const std::string& path);

}  // namespace plumb
