// Text for the report: arbitrary bytes made safe for HTML, and human-readable numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/file/json_tolerant.hpp"

namespace plumb {

/// Makes text safe between tags and within quoted attributes: escapes & < > " ', and replaces invalid UTF-8 and control
/// characters other than newline and tab with U+FFFD. Input beyond max_bytes is replaced with an ellipsis.
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

/// Strings unchanged, numbers human-readable, lists separated by commas; deeper nesting becomes an ellipsis.
std::string text_of(const OrderedJson& value);

}  // namespace plumb
