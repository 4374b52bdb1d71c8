#include "lib/tokenizer/unicode_form.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

static int combining_class(utf8proc_int32_t value) { return utf8proc_get_property(value)->combining_class; }

// utf8proc sorts marks by swapping adjacent ones, which is quadratic for long runs; this sort is not.
static void order_marks(std::vector<utf8proc_int32_t>& values) {
  for (size_t begin = 0; begin < values.size();) {
    if (combining_class(values[begin]) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin + 1;
    while (end < values.size() && combining_class(values[end]) != 0) ++end;
    std::stable_sort(values.begin() + static_cast<std::ptrdiff_t>(begin),
                     values.begin() + static_cast<std::ptrdiff_t>(end),
                     [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

std::string to_unicode_form(std::string_view part, UnicodeForm form) {
  const bool is_compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const bool is_composed = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const int decompose = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  const auto options = static_cast<utf8proc_option_t>(is_compatible ? decompose | UTF8PROC_COMPAT : decompose);
  std::vector<utf8proc_int32_t> values;
  values.reserve(part.size());
  for (size_t at = 0; at < part.size();) {
    const CodePoint point = code_point_at(part, at);
    std::array<utf8proc_int32_t, 32> decomposed{};  // the longest decomposition has 18
    int boundary_class = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point.value), decomposed.data(),
                                static_cast<utf8proc_ssize_t>(decomposed.size()), options, &boundary_class);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(decomposed.size())) {
      throw_error<DataError>("text: U+{:04X} cannot be normalized: {}", static_cast<uint32_t>(point.value),
                             utf8proc_errmsg(count));
    }
    values.insert(values.end(), decomposed.begin(), decomposed.begin() + count);
    at += point.size_bytes;
  }
  order_marks(values);
  size_t size = values.size();
  if (is_composed) {
    const auto compose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    size = static_cast<size_t>(
        utf8proc_normalize_utf32(values.data(), static_cast<utf8proc_ssize_t>(values.size()), compose));
  }
  std::string out;
  out.reserve(part.size());
  for (size_t i = 0; i < size; ++i) append_code_point(out, static_cast<char32_t>(values[i]));
  return out;
}

void append_lowercase(std::string& out, char32_t value) {
  if (value == 0x130) {  // the only unconditional lowercase mapping to two code points: i with dot above
    out += "i\xCC\x87";
    return;
  }
  append_code_point(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(value))));
}

}  // namespace plumb
