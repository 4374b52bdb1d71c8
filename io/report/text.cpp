#include "io/report/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace plumb {

namespace {

constexpr size_t kMaxListed = 20;  // elements of a list

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

/// The size of the UTF-8 character at the start of `text`; 0 if there is none. Overlong forms, surrogates and values
/// above U+10FFFF are invalid.
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool is_overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool is_beyond = (first == 0xed && byte(1) > 0x9f) || (first == 0xf4 && byte(1) > 0x8f);
  return is_overlong || is_beyond ? 0 : size;
}

/// True for C0 except newline and tab, DEL, C1, and the marks that reorder text.
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return (first < 0x20 && first != '\n' && first != '\t') || first == 0x7f;
  if (character.size() == 2) return first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
  return (character >= "\u202a" && character <= "\u202e") || (character >= "\u2066" && character <= "\u2069") ||
         character == "\ufffe" || character == "\uffff";
}

}  // namespace

std::string escape_html(std::string_view text, size_t max_bytes) {
  std::string out;
  size_t taken = 0;
  while (taken < text.size()) {
    const std::string_view rest = text.substr(taken);
    const size_t size = character_bytes(rest);
    if (taken + std::max<size_t>(size, 1) > max_bytes) return out + "\u2026";
    const std::string_view character = rest.substr(0, size);
    taken += std::max<size_t>(size, 1);
    if (size == 0 || is_control(character)) {
      out += kReplacement;
    } else if (character == "&") {
      out += "&amp;";
    } else if (character == "<") {
      out += "&lt;";
    } else if (character == ">") {
      out += "&gt;";
    } else if (character == "\"") {
      out += "&quot;";
    } else if (character == "'") {
      out += "&#39;";
    } else {
      out += character;
    }
  }
  return out;
}

std::string render_count(int64_t count) {
  std::string digits = fmt::format("{}", count);
  const std::ptrdiff_t sign = count < 0 ? 1 : 0;
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > sign; i -= 3) digits.insert(i, 1, ',');
  return digits;
}

std::string render_magnitude(double value) {
  constexpr std::string_view kSuffixes[] = {"", " k", " M", " B", " T"};
  if (!std::isfinite(value)) return "not finite";
  size_t suffix = 0;
  while (std::abs(value) >= 999.5 && suffix + 1 < std::size(kSuffixes)) {
    value /= 1000;
    ++suffix;
  }
  return fmt::format("{:.3g}{}", value, kSuffixes[suffix]);
}

std::string render_number(double value) {
  if (!std::isfinite(value)) return "not finite";
  if (std::abs(value) >= 1000 && std::abs(value) < 1e15) return render_count(std::llround(value));
  return fmt::format("{:.4g}", value);
}

std::string render_share(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", share * 100) : "not finite";
}

std::string render_seconds(double seconds) {
  if (!(seconds >= 0) || seconds > 1e12) return "unknown";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string readable_name(std::string_view key) {
  std::string name;
  for (const char c : key) {
    if (c == '/') {
      name += " / ";
    } else {
      name += c == '_' ? ' ' : c;
    }
  }
  if (!name.empty() && name[0] >= 'a' && name[0] <= 'z') name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return name;
}

std::string text_of(const OrderedJson& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_integer()) return value.dump();
  if (value.is_number()) return render_number(value.get<double>());
  if (value.is_null()) return "";
  if (!value.is_array()) return "\u2026";
  std::string text;
  for (size_t i = 0; i < value.size() && i < kMaxListed; ++i) {
    text += (i == 0 ? "" : ", ") + (value[i].is_structured() ? "\u2026" : text_of(value[i]));
  }
  return value.size() > kMaxListed ? text + ", \u2026" : text;
}

}  // namespace plumb
