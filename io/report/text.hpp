// Text for the report: any bytes made safe for HTML, and numbers written for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/file/json_tolerant.hpp"

namespace plumb {

/// Safe between tags and within quoted attributes: & < > " ' are escaped, bytes that are not UTF-8 and control
/// characters other than newline and tab become U+FFFD. More than max_bytes of input are cut, with an ellipsis in their
/// place.
std::string escape_html(std::string_view text, size_t max_bytes = 4000);

/// "1,234,567"
std::string render_count(int64_t count);
/// "950", "12.3 k", "1.24 M", "7.1 B"
std::string render_magnitude(double value);
/// Four significant digits without trailing zeros: "0.6931", "2e-05", "12,345"; "not finite" for NaN and infinities.
std::string render_number(double value);
/// "81.3 %"
std::string render_share(double share);
/// "0.8 s", "42 s", "3 min 05 s", "2 h 07 min"
std::string render_seconds(double seconds);
/// "rewards/margins" as "Rewards / margins", "eval_mean_token_accuracy" as "Eval mean token accuracy"
std::string readable_name(std::string_view key);

/// Strings as they are, numbers for people, lists with commas; what is nested deeper as an ellipsis.
std::string text_of(const OrderedJson& value);

}  // namespace plumb
