#include "lib/tokenizer/regex_dialect.hpp"

#include <algorithm>
#include <array>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

// PCRE2's own \s includes U+180E, and its \w lacks marks and connectors.
constexpr std::string_view kSpace = "\\p{White_Space}";
constexpr std::string_view kNoSpace = "\\P{White_Space}";
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// Outside brackets, Oniguruma's \w and its word boundaries also include superscripts and fractions of Latin-1.
constexpr std::string_view kBareWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";
constexpr std::string_view kHex = "0-9a-fA-F";

struct PropertyName {
  std::string_view from, to;
};
// Long names, which PCRE2 does not know, and scripts, which PCRE2 would interpret as script extensions.
constexpr std::array kPropertyNames = {
    PropertyName{"Letter", "L"},
    PropertyName{"Mark", "M"},
    PropertyName{"Number", "N"},
    PropertyName{"Punctuation", "P"},
    PropertyName{"Punct", "P"},
    PropertyName{"Symbol", "S"},
    PropertyName{"Separator", "Z"},
    PropertyName{"Other", "C"},
    PropertyName{"Digit", "Nd"},
    PropertyName{"Alpha", "Alphabetic"},
    PropertyName{"Space", "White_Space"},
    PropertyName{"Upper", "Uppercase"},
    PropertyName{"Lower", "Lowercase"},
    PropertyName{"Arabic", "sc:Arabic"},
    PropertyName{"Bengali", "sc:Bengali"},
    PropertyName{"Bopomofo", "sc:Bopomofo"},
    PropertyName{"Cyrillic", "sc:Cyrillic"},
    PropertyName{"Devanagari", "sc:Devanagari"},
    PropertyName{"Greek", "sc:Greek"},
    PropertyName{"Han", "sc:Han"},
    PropertyName{"Hangul", "sc:Hangul"},
    PropertyName{"Hebrew", "sc:Hebrew"},
    PropertyName{"Hiragana", "sc:Hiragana"},
    PropertyName{"Katakana", "sc:Katakana"},
    PropertyName{"Latin", "sc:Latin"},
    PropertyName{"Tamil", "sc:Tamil"},
    PropertyName{"Thai", "sc:Thai"},
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

class Translation {
 public:
  Translation(std::string_view expression, std::string_view where) : in_(expression), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      if (in_[at_] == '\\') {
        escape();
      } else if (class_depth_ > 0) {
        class_member();
      } else {
        ordinary();
      }
    }
    return std::move(out_);
  }

 private:
  bool has(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  char peek(size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void copy(size_t count) {
    const std::string_view part = in_.substr(at_, count);
    out_ += part;
    at_ += part.size();
  }
  void put(std::string_view text, size_t consumed) {
    out_ += text;
    at_ += consumed;
  }
  // Writes a set: bare inside a class, in its own brackets outside.
  void put_set(std::string_view members, bool is_negated) {
    if (class_depth_ > 0 && is_negated) refuse("\\W and \\H inside a character class are");
    if (class_depth_ == 0) out_ += is_negated ? "[^" : "[";
    out_ += members;
    if (class_depth_ == 0) out_ += ']';
    at_ += 2;
  }
  [[noreturn]] void refuse(std::string_view what) const {
    throw_error<DataError>("{}: byte {} of the regular expression '{}': {} not supported", where_, at_, in_, what);
  }

  void escape() {
    switch (peek(1)) {
      case 's':
        return put(kSpace, 2);
      case 'S':
        return put(kNoSpace, 2);
      case 'w':
        return put_set(class_depth_ > 0 ? kWord : kBareWord, false);
      case 'W':
        return put_set(class_depth_ > 0 ? kWord : kBareWord, true);
      case 'h':
        return put_set(kHex, false);
      case 'H':
        return put_set(kHex, true);
      case 'v':
        return put("\\x0B", 2);
      case 'b':
        return class_depth_ > 0 ? copy(2) : word_boundary(true);
      case 'B':
        return class_depth_ > 0 ? copy(2) : word_boundary(false);
      case 'p':
      case 'P':
        return property();
      case 'u':
        return code_unit();
      default:
        return copy(2);
    }
  }

  void word_boundary(bool is_boundary) {
    const std::string word = fmt::format("[{}]", kBareWord);
    out_ += is_boundary ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                        : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word);
    at_ += 2;
  }

  void property() {
    const size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) return copy(2);
    const bool is_negated = peek(3) == '^';
    const size_t begin = at_ + (is_negated ? 4 : 3);
    std::string_view name = in_.substr(begin, close - begin);
    const auto known = std::find_if(kPropertyNames.begin(), kPropertyNames.end(),
                                    [&](const PropertyName& property) { return property.from == name; });
    if (known != kPropertyNames.end()) name = known->to;
    out_ += fmt::format("\\{}{{{}{}}}", in_[at_ + 1], is_negated ? "^" : "", name);
    at_ = close + 1;
  }

  void code_unit() {
    for (size_t i = 2; i < 6; ++i) {
      if (!is_hex(peek(i))) return copy(2);
    }
    out_ += fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4));
    at_ += 6;
  }

  void class_member() {
    if (has("&&")) refuse("intersections of character classes (&&) are");
    if (has("[:")) {
      const size_t close = in_.find(":]", at_);
      if (close != std::string_view::npos) return copy(close + 2 - at_);
    }
    if (in_[at_] == '[') return begin_nested();
    if (in_[at_] != ']') return copy(1);
    if (--class_depth_ == 0) return copy(1);
    ++at_;
    if (peek(0) == '-') refuse("ranges beside a nested character class are");
  }

  // The members of a class within a class are members of the outer one.
  void begin_nested() {
    if (peek(1) == '^' || peek(1) == ']') refuse("nested character classes that begin with ^ or ] are");
    if (in_[at_ - 1] == '-') refuse("ranges beside a nested character class are");
    ++class_depth_;
    ++at_;
  }

  void ordinary() {
    if (in_[at_] == '[') {
      class_depth_ = 1;
      copy(peek(1) == '^' ? 2 : 1);
      if (peek(0) == ']') copy(1);
    } else if (has("(?")) {
      inline_flags();
    } else if (in_[at_] == '{') {
      interval();
    } else {
      copy(1);
    }
  }

  // Ruby's flag m lets . match a newline; elsewhere that is flag s.
  void inline_flags() {
    size_t end = at_ + 2;
    while (end < in_.size() && std::string_view("imx-").find(in_[end]) != std::string_view::npos) ++end;
    const bool is_flags = end > at_ + 2 && end < in_.size() && (in_[end] == ':' || in_[end] == ')');
    if (!is_flags) return copy(2);
    std::string flags(in_.substr(at_, end - at_));
    std::replace(flags.begin(), flags.end(), 'm', 's');
    put(flags, flags.size());
  }

  void interval() {
    size_t end = at_ + 1;
    while (end < in_.size() && (is_digit(in_[end]) || in_[end] == ',')) ++end;
    if (end >= in_.size() || in_[end] != '}' || end == at_ + 1) return copy(1);
    if (end + 1 < in_.size() && in_[end + 1] == '+') refuse("a + after an interval is");
    if (peek(1) == ',') {
      out_ += "{0";
      ++at_;
    }
    copy(end + 1 - at_);
  }

  std::string_view in_, where_;
  std::string out_;
  size_t at_ = 0;
  int class_depth_ = 0;  // 0: outside of character classes
};

}  // namespace

std::string to_pcre2(std::string_view expression, std::string_view where) {
  return Translation(expression, where).run();
}

}  // namespace plumb
