// Values as people read them in messages: amounts of memory, durations, lists, and the name that was probably meant.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// "1.20 MiB", "3.40 GiB"
std::string render_bytes(int64_t bytes);

/// "1:02:03" or "2:03"
std::string render_duration(double seconds);

/// "a, b, c and 7 more": at most five of the names.
std::string list_some(const std::vector<std::string>& names);

/// The candidate closest to `word` by edit distance; empty if none is near.
std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

/// "; did you mean --loss_type?" with the nearest candidate between `before` and `after`; empty if none is near.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates, std::string_view before = "",
                         std::string_view after = "");

}  // namespace plumb
