#include <utf8proc.h>

#include "lib/jinja/text.hpp"

namespace plumb::jinja {

static bool is_stray_byte(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]) >= 0x80 && code_point_size(text, at) == 1;
}

static bool is_upper_letter(int32_t c) { return utf8proc_isupper(c) != 0; }
static bool is_lower_letter(int32_t c) { return utf8proc_islower(c) != 0; }
static bool is_cased(int32_t c) {
  return is_upper_letter(c) || is_lower_letter(c) || utf8proc_category(c) == UTF8PROC_CATEGORY_LT;
}

enum class Case { kUpper, kLower, kTitle };

static std::string mapped(int32_t c, Case to) {
  constexpr int32_t kSharpS = 0xDF;
  if (c == kSharpS) return to == Case::kUpper ? "SS" : to == Case::kTitle ? "Ss" : "\xC3\x9F";
  std::string out;
  append_utf8(out, to == Case::kUpper   ? utf8proc_toupper(c)
                   : to == Case::kLower ? utf8proc_tolower(c)
                                        : utf8proc_totitle(c));
  return out;
}

// Maps each code point to the case that `choose(code point)` returns; the result keeps the mark.
template <class Choose>
static Text map_case(const Text& text, Choose choose) {
  constexpr int32_t kSigma = 0x3A3;
  Text out;
  out.bytes.reserve(text.size());
  out.marks.reserve(text.size());
  bool follows_letter = false;
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + code_point_size(text.bytes, at);
    if (is_stray_byte(text.bytes, at)) {
      out.append(text.part(at, next));
      follows_letter = false;
    } else {
      const int32_t c = code_point_at(text.bytes, at);
      const Case to = choose(c);
      const bool precedes_letter = next < text.size() && is_cased(code_point_at(text.bytes, next));
      if (c == kSigma && to == Case::kLower && follows_letter && !precedes_letter)
        out.append("\xCF\x82", text.marks[at]);
      else
        out.append(mapped(c, to), text.marks[at]);
      follows_letter = is_cased(c);
    }
    at = next;
  }
  return out;
}

Text upper(const Text& text) {
  return map_case(text, [](int32_t) { return Case::kUpper; });
}

Text lower(const Text& text) {
  return map_case(text, [](int32_t) { return Case::kLower; });
}

Text capitalize(const Text& text) {
  return map_case(text, [is_first = true](int32_t) mutable {
    const Case to = is_first ? Case::kTitle : Case::kLower;
    is_first = false;
    return to;
  });
}

Text title(const Text& text) {
  return map_case(text, [follows_letter = false](int32_t c) mutable {
    const Case to = follows_letter ? Case::kLower : Case::kTitle;
    follows_letter = is_cased(c);
    return to;
  });
}

Text swap_case(const Text& text) {
  return map_case(text, [](int32_t c) { return is_upper_letter(c) ? Case::kLower : Case::kUpper; });
}

Text fold_case(const Text& text) {
  Text out;
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + code_point_size(text.bytes, at);
    constexpr int kMaxFolded = 3;  // code points
    utf8proc_int32_t folded[kMaxFolded];
    int last_boundary = 0;
    const auto count = is_stray_byte(text.bytes, at)
                           ? 0
                           : utf8proc_decompose_char(code_point_at(text.bytes, at), folded, kMaxFolded,
                                                     UTF8PROC_CASEFOLD, &last_boundary);
    std::string bytes;
    for (int i = 0; i < count && count <= kMaxFolded; ++i) append_utf8(bytes, folded[i]);
    if (bytes.empty())
      out.append(text.part(at, next));
    else
      out.append(bytes, text.marks[at]);
    at = next;
  }
  return out;
}

Text title_words(const Text& text) {
  return map_case(text, [starts_word = true](int32_t c) mutable {
    const Case to = starts_word ? Case::kUpper : Case::kLower;
    starts_word = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    return to;
  });
}

static bool is_all(std::string_view text, bool (*is_wanted)(int32_t)) {
  bool has_cased = false;
  for (size_t at = 0; at < text.size(); at += code_point_size(text, at)) {
    if (is_stray_byte(text, at) || !is_cased(code_point_at(text, at))) continue;
    if (!is_wanted(code_point_at(text, at))) return false;
    has_cased = true;
  }
  return has_cased;
}

bool is_title(std::string_view text) {
  bool has_cased = false;
  bool follows_letter = false;
  for (size_t at = 0; at < text.size(); at += code_point_size(text, at)) {
    const int32_t c = is_stray_byte(text, at) ? ' ' : code_point_at(text, at);
    if (is_cased(c) && is_lower_letter(c) != follows_letter) return false;
    follows_letter = is_cased(c);
    has_cased = has_cased || follows_letter;
  }
  return has_cased;
}

bool is_all_upper(std::string_view text) { return is_all(text, is_upper_letter); }
bool is_all_lower(std::string_view text) { return is_all(text, is_lower_letter); }

}  // namespace plumb::jinja
