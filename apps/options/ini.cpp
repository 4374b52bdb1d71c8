#include "apps/options/ini.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxFileBytes = 16 << 20;
constexpr const char* kBlanks = " \t";

std::string_view trim(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const size_t last = text.find_last_not_of(kBlanks);
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

/// The text before a `#` that starts a comment.
std::string_view without_comment(std::string_view text) {
  for (size_t i = text.find('#'); i != std::string_view::npos; i = text.find('#', i + 1))
    if (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t') return trim(text.substr(0, i));
  return text;
}

/// The value in quotes with which `text` begins.
std::string parse_quoted(std::string_view text) {
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      const std::string_view rest = trim(text.substr(i + 1));
      if (!without_comment(rest).empty()) throw_error<UsageError>("expected nothing after the quotes, got {}", rest);
      return value;
    }
    const bool is_escape = text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\');
    if (is_escape) ++i;
    value += text[i];
  }
  throw UsageError("expected a quote that closes the value");
}

Setting parse_setting(std::string_view line) {
  const size_t equals = line.find('=');
  if (equals == std::string_view::npos || equals == 0)
    throw_error<UsageError>("expected name = value or [section], got {}", line);
  Setting setting{std::string(trim(line.substr(0, equals))), "", ""};
  std::replace(setting.name.begin(), setting.name.end(), '-', '_');
  const std::string_view value = trim(line.substr(equals + 1));
  setting.value = value.starts_with('"') ? parse_quoted(value) : without_comment(value);
  if (setting.value.empty())
    throw_error<UsageError>("{}: expected a value, got none; remove the line to use the default", setting.name);
  return setting;
}

void check_characters(std::string_view line) {
  for (const char c : line)
    if (static_cast<unsigned char>(c) < ' ' && c != '\t')
      throw_error<UsageError>("expected text, got the control character {:#04x}", static_cast<int>(c));
}

}  // namespace

std::vector<IniSection> parse_ini(std::string_view text, const std::string& path) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::vector<IniSection> sections(1);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    const std::string where = fmt::format("line {}: ", ++number);
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = trim(line);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    try {
      check_characters(line);
      if (line.front() == '[') {
        sections.push_back({std::string(without_comment(line)), where, {}});
        continue;
      }
      sections.back().settings.push_back(parse_setting(line));
      sections.back().settings.back().where = where;
    } catch (const UsageError& error) {
      throw_error<UsageError>("{}: {}{}", path, where, error.what());
    }
  }
  return sections;
}

std::string render_setting(const Setting& setting) {
  const std::string& value = setting.value;
  if (value.find_first_of("\r\n") != std::string::npos)
    throw_error<UsageError>("{}: expected a value of one line, got several", setting.name);
  const bool is_plain = !value.empty() && value.front() != '"' && without_comment(trim(value)) == value;
  if (is_plain) return fmt::format("{} = {}\n", setting.name, value);
  std::string quoted;
  for (const char c : value) quoted += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
  return fmt::format("{} = \"{}\"\n", setting.name, quoted);
}

Settings read_config_file(const std::string& path) {
  if (!is_regular_file(path)) throw_error<UsageError>("--config {}: cannot be read: expected a file, got none", path);
  std::vector<IniSection> sections = parse_ini(read_text_file(path, kMaxFileBytes), path);
  if (sections.size() > 1)
    throw_error<UsageError>(
        "{}: {}expected options of this command only, got the section {}; plumb pipeline takes files "
        "with sections",
        path, sections[1].where, sections[1].line);
  for (Setting& setting : sections[0].settings) setting.where = fmt::format("{}: {}", path, setting.where);
  return sections[0].settings;
}

}  // namespace plumb
