#include "lib/jinja/lexer.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "lib/jinja/text.hpp"

namespace plumb::jinja {

constexpr size_t kMaxSourceBytes = size_t{1} << 20;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

// Converts newlines to "\n" and drops one at the very end.
static std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

static int digit_value(char c) {
  return is_digit(c) ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

static std::string unescape(std::string_view body, int line) {
  std::string out;
  for (size_t i = 0; i < body.size();) {
    if (body[i] != '\\') {
      out += body[i++];
      continue;
    }
    const char escape = body[i + 1];  // exists: the string did not end here
    i += 2;
    constexpr std::string_view kFrom = "nrtabfv\\'\"";
    constexpr std::string_view kTo = "\n\r\t\a\b\f\v\\'\"";
    const size_t simple = kFrom.find(escape);
    const size_t num_hex = escape == 'x' ? 2 : escape == 'u' ? 4 : escape == 'U' ? 8 : 0;
    if (simple != std::string_view::npos) {
      out += kTo[simple];
    } else if (escape == '\n') {
      // a backslash at the end of a line joins it to the next line
    } else if (escape >= '0' && escape <= '7') {
      int32_t code_point = escape - '0';
      for (int k = 0; k < 2 && i < body.size() && body[i] >= '0' && body[i] <= '7'; ++k)
        code_point = code_point * 8 + (body[i++] - '0');
      append_utf8(out, code_point);
    } else if (num_hex > 0) {
      uint32_t code_point = 0;
      for (size_t k = 0; k < num_hex; ++k, ++i) {
        if (i >= body.size() || digit_value(body[i]) > 15)
          syntax_error(line, "truncated escape \\{}; expected {} hexadecimal digits", escape, num_hex);
        code_point = code_point * 16 + static_cast<uint32_t>(digit_value(body[i]));
      }
      if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))
        syntax_error(line, "escape \\{}{:x} is not a character", escape, code_point);
      append_utf8(out, static_cast<int32_t>(code_point));
    } else if (escape == 'N') {
      syntax_error(line, "escape \\N is not supported; write \\u and the code point");
    } else {
      out += '\\';
      out += escape;
    }
  }
  return out;
}

namespace {

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_data();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text), 0, 0}); }

  std::string_view rest() const { return std::string_view(source_).substr(at_); }

  void advance(size_t bytes) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(at_ + bytes), '\n'));
    at_ += bytes;
  }

  void skip_space() {
    while (at_ < source_.size() && is_space_at(source_, at_)) advance(code_point_size(source_, at_));
  }

  // Lexes the text up to the next tag, then the opening of the tag.
  void lex_data() {
    size_t open = at_;
    while (true) {
      open = source_.find('{', open);
      if (open == std::string::npos || open + 1 >= source_.size()) {
        add_data(source_.size(), '+', false);
        return;
      }
      const char kind = source_[open + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
      ++open;
    }
    const char kind = source_[open + 1];
    const char sign = open + 2 < source_.size() ? source_[open + 2] : ' ';
    const bool has_sign = sign == '-' || sign == '+';
    add_data(open, sign, kind != '{');
    if (kind != '#' && lex_raw(has_sign ? 3 : 2, kind)) return;
    advance(has_sign ? 3 : 2);
    if (kind == '#') return lex_comment();
    add(kind == '{' ? TokenKind::kPrintBegin : TokenKind::kBlockBegin, "");
    lex_code(kind == '{' ? "}}" : "%}");
  }

  // Emits the text before a tag at `end`, after the whitespace control of the tag (its sign, or lstrip_blocks).
  void add_data(size_t end, char sign, bool is_lstripped) {
    const std::string_view text = std::string_view(source_).substr(at_, end - at_);
    size_t kept = text.size();
    if (sign == '-') {
      kept = strip(Text(text), nullptr, false, true).size();
    } else if (sign != '+' && is_lstripped) {
      const size_t newline = text.rfind('\n');
      const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      const bool starts_line = line_start > 0 || at_ == 0 || source_[at_ - 1] == '\n';
      if (starts_line && strip(Text(text.substr(line_start)), nullptr, true, false).size() == 0) kept = line_start;
    }
    if (kept > 0) add(TokenKind::kData, std::string(text.substr(0, kept)));
    advance(text.size());
  }

  // Applies whitespace control after a closing tag: "-" strips all white space, "+" nothing, else trim_blocks one
  // newline.
  void end_tag(char sign, bool is_trimmed) {
    if (sign == '-') return skip_space();
    if (sign != '+' && is_trimmed && rest().starts_with('\n')) advance(1);
  }

  void lex_comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) syntax_error(line_, "comment has no end; expected #}}");
    const char sign = end > at_ ? source_[end - 1] : ' ';
    advance(end + 2 - at_);
    end_tag(sign, true);
  }

  // Lexes {% raw %} ... {% endraw %}; false if there is none at at_.
  bool lex_raw(size_t opening_bytes, char kind) {
    if (kind != '%') return false;
    const auto match_tag = [&](size_t at, std::string_view name) -> std::pair<size_t, char> {
      const auto skip = [&] {
        while (at < source_.size() && is_space_at(source_, at)) at += code_point_size(source_, at);
      };
      skip();
      if (source_.compare(at, name.size(), name) != 0) return {0, ' '};
      at += name.size();
      skip();
      char sign = ' ';
      if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) sign = source_[at++];
      if (source_.compare(at, 2, "%}") != 0) return {0, ' '};
      return {at + 2, sign};
    };
    const auto [body, opening_sign] = match_tag(at_ + opening_bytes, "raw");
    if (body == 0) return false;
    advance(body - at_);
    if (opening_sign == '-') skip_space();
    for (size_t open = source_.find("{%", at_); open != std::string::npos; open = source_.find("{%", open + 2)) {
      const char sign = open + 2 < source_.size() ? source_[open + 2] : ' ';
      const auto [end, closing_sign] = match_tag(open + (sign == '-' || sign == '+' ? 3 : 2), "endraw");
      if (end == 0) continue;
      add_data(open, sign, true);
      advance(end - at_);
      end_tag(closing_sign, true);
      return true;
    }
    syntax_error(line_, "raw block has no end; expected {{% endraw %}}");
  }

  void lex_code(std::string_view closing) {
    std::string brackets;  // closing brackets still expected
    const int first_line = line_;
    while (true) {
      skip_space();
      if (at_ == source_.size()) syntax_error(first_line, "tag has no end; expected {}", closing);
      const char c = source_[at_];
      if (brackets.empty()) {
        const bool has_sign = c == '-' || (c == '+' && closing == "%}");
        if (rest().substr(has_sign ? 1 : 0).starts_with(closing)) {
          add(closing == "%}" ? TokenKind::kBlockEnd : TokenKind::kPrintEnd, std::string(closing));
          advance(has_sign ? 3 : 2);
          return end_tag(c, closing == "%}");
        }
      }
      if (is_name_start(c))
        lex_name();
      else if (is_digit(c))
        lex_number();
      else if (c == '"' || c == '\'')
        lex_string(c);
      else
        lex_operator(brackets);
    }
  }

  void lex_name() {
    size_t size = 1;
    while (size < rest().size() && is_name_part(rest()[size])) ++size;
    add(TokenKind::kName, std::string(rest().substr(0, size)));
    at_ += size;
  }

  // The end of the digits, with single underscores between them, that start at `at`.
  size_t digits_end(size_t at, int base) const {
    while (at < source_.size() && (digit_value(source_[at]) < base || (source_[at] == '_' && at + 1 < source_.size() &&
                                                                       digit_value(source_[at + 1]) < base)))
      ++at;
    return at;
  }

  void lex_number() {
    const char letter = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : ' ';
    const int base = source_[at_] != '0' ? 10 : letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    const size_t begin = base == 10 ? at_ : at_ + 2;
    size_t end = digits_end(begin, base);
    bool is_float = false;
    const auto is_digit_at = [&](size_t at) { return at < source_.size() && is_digit(source_[at]); };
    // after a dot, as in x.0.1, digits are an index
    const bool follows_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (base == 10 && !follows_dot) {
      if (end < source_.size() && source_[end] == '.' && is_digit_at(end + 1))
        end = digits_end(end + 1, 10), is_float = true;
      if (end < source_.size() && (source_[end] | 0x20) == 'e') {
        const size_t exponent =
            end + 1 + (end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-'));
        if (is_digit_at(exponent)) end = digits_end(exponent, 10), is_float = true;
      }
    }
    std::string digits = source_.substr(begin, end - begin);
    std::erase(digits, '_');
    add(is_float ? TokenKind::kFloat : TokenKind::kInteger, digits);
    Token& token = tokens_.back();
    const char* last = digits.data() + digits.size();
    const auto result = is_float ? std::from_chars(digits.data(), last, token.number)
                                 : std::from_chars(digits.data(), last, token.integer, base);
    const bool is_leading_zero = !is_float && base == 10 && digits.size() > 1 && digits[0] == '0' && token.integer != 0;
    if (result.ec != std::errc() || result.ptr != last || is_leading_zero)
      syntax_error(line_, "'{}' is not a number this program can hold; expected 64-bit integers or floats",
                   digits.substr(0, 40));
    at_ = end;
  }

  void lex_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) syntax_error(line_, "string has no end; expected {}", quote);
    add(TokenKind::kString, unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1), line_));
    advance(end + 1 - at_);
  }

  void lex_operator(std::string& brackets) {
    static constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                                    "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                                    ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto* found =
        std::find_if(kOperators.begin(), kOperators.end(), [&](std::string_view op) { return rest().starts_with(op); });
    if (found == kOperators.end())
      syntax_error(line_, "unexpected character '{}'; expected an expression",
                   rest().substr(0, code_point_size(source_, at_)));
    const char c = found->front();
    if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty()) syntax_error(line_, "unexpected '{}'", c);
      if (brackets.back() != c) syntax_error(line_, "unexpected '{}', expected '{}'", c, brackets.back());
      brackets.pop_back();
    }
    add(TokenKind::kOperator, std::string(*found));
    at_ += found->size();
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > kMaxSourceBytes)
    throw_error<DataError>("chat template: {} bytes; expected at most {}", source.size(), kMaxSourceBytes);
  return Lexer(source).run();
}

}  // namespace plumb::jinja
