#include "lib/jinja/word_wrap.hpp"

#include <algorithm>
#include <utility>

#include "lib/jinja/characters.hpp"

namespace plumb::jinja {
namespace {

bool is_blank(int32_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_word(int32_t c) { return c == '_' || is_letter_or_number(c); }
bool is_wordlike(int32_t c) {
  return is_word(c) || (c < 0x80 && std::string_view("!\"'&.,?").find(static_cast<char>(c)) != std::string_view::npos);
}
bool is_word_letter(int32_t c) { return is_word(c) && !is_decimal(c); }

// One line of text, split where it may be broken.
class LineSplitter {
 public:
  LineSplitter(const Text& line, bool breaks_on_hyphens) : breaks_on_hyphens_(breaks_on_hyphens) {
    for (size_t at = 0; at < line.size(); at += code_point_size(line.bytes, at))
      characters_.push_back(code_point_at(line.bytes, at));
  }

  // Sizes in code points.
  std::vector<size_t> run() const {
    std::vector<size_t> sizes;
    for (size_t begin = 0; begin < characters_.size(); begin += sizes.back()) sizes.push_back(end_of(begin) - begin);
    return sizes;
  }

 private:
  int32_t at(size_t i) const { return i < characters_.size() ? characters_[i] : ' '; }

  bool starts_dash(size_t i) const {
    size_t end = i;
    while (at(end) == '-') ++end;
    return end >= i + 2 && is_word(at(end));
  }

  // Whether a word may be broken after the hyphen at i.
  bool is_breaking_hyphen(size_t i) const {
    if (at(i) != '-' || i < 2) return false;
    const bool after_letters = is_word_letter(at(i - 1)) && is_word_letter(at(i - 2));
    const bool after_hyphen = i >= 3 && is_wordlike(at(i - 1)) && at(i - 2) == '-' && is_word_letter(at(i - 3));
    if (!after_letters && !after_hyphen) return false;
    return is_word_letter(at(i + 1)) && (is_word_letter(at(i + 2)) || (at(i + 2) == '-' && is_word_letter(at(i + 3))));
  }

  size_t end_of(size_t begin) const {
    size_t end = begin;
    if (is_blank(at(begin))) {
      while (end < characters_.size() && is_blank(at(end))) ++end;
      return end;
    }
    if (breaks_on_hyphens_ && begin > 0 && is_wordlike(at(begin - 1)) && starts_dash(begin)) {
      while (at(end) == '-') ++end;
      return end;
    }
    for (end = begin + 1; end < characters_.size() && !is_blank(at(end)); ++end) {
      if (!breaks_on_hyphens_) continue;
      if (is_breaking_hyphen(end)) return end + 1;
      if (is_wordlike(at(end - 1)) && starts_dash(end)) return end;
    }
    return end;
  }

  bool breaks_on_hyphens_;
  std::vector<int32_t> characters_;
};

// Collects the pieces of one line of text into lines.
class Wrapper {
 public:
  Wrapper(const Text& line, const WrapStyle& style)
      : line_(line),
        style_(style),
        offsets_(code_point_offsets(line.bytes)),
        width_(static_cast<size_t>(style.width)) {}

  std::vector<Text> run() {
    std::vector<size_t> sizes = LineSplitter(line_, style_.breaks_on_hyphens).run();
    std::vector<Text> lines;
    size_t begin = 0;
    for (size_t i = 0; i < sizes.size();) {
      if (!lines.empty() && is_space_piece(begin, sizes[i])) begin += sizes[i++];
      size_t end = begin, last = begin;  // `last`: where the last piece begins
      for (; i < sizes.size() && end - begin + sizes[i] <= width_; ++i) last = std::exchange(end, end + sizes[i]);
      if (i < sizes.size() && sizes[i] > width_) {
        const size_t taken = long_piece(end, sizes[i], width_ - (end - begin), end > begin);
        // a part of a word ends the line, even an empty one, so that blanks before it stay
        if (taken > 0 || style_.breaks_long_words) last = std::exchange(end, end + taken);
        sizes[i] -= taken;
        if (sizes[i] == 0) ++i;
      }
      const size_t kept = end > last && is_space_piece(last, end - last) ? last : end;
      if (kept > begin) lines.push_back(line_.part(offsets_[begin], offsets_[kept]));
      begin = end;
    }
    return lines;
  }

 private:
  bool is_space_piece(size_t begin, size_t size) const {
    return strip(line_.part(offsets_[begin], offsets_[begin + size]), nullptr, true, true).size() == 0;
  }

  // How much of a piece that is wider than a line goes into the current one.
  size_t long_piece(size_t begin, size_t size, size_t space, bool has_pieces) const {
    if (!style_.breaks_long_words) return has_pieces ? 0 : size;
    if (!style_.breaks_on_hyphens) return space;
    const Text head = line_.part(offsets_[begin], offsets_[begin + space]);
    const size_t hyphen = head.bytes.rfind('-');
    const bool is_end = hyphen != std::string::npos && hyphen > 0 && head.bytes.find_first_not_of('-') < hyphen;
    return is_end ? count_code_points(std::string_view(head.bytes).substr(0, hyphen)) + 1 : space;
  }

  const Text& line_;
  const WrapStyle& style_;
  std::vector<size_t> offsets_;
  size_t width_;
};

}  // namespace

Text wrap_words(Runtime& runtime, const Text& text, const WrapStyle& style) {
  if (style.width <= 0) runtime.fail("wordwrap: a width of {}; expected at least 1", style.width);
  runtime.charge_values(text.size());
  Text out;
  bool is_first = true;
  for (const Text& line : split_lines(text, false)) {
    const std::vector<Text> lines = Wrapper(line, style).run();
    if (!std::exchange(is_first, false)) runtime.append(out, style.separator);
    for (size_t i = 0; i < lines.size(); ++i) {
      if (i > 0) runtime.append(out, style.separator);
      runtime.append(out, lines[i]);
    }
  }
  return out;
}

}  // namespace plumb::jinja
