#include "lib/base/named.hpp"

#include <fmt/ranges.h>

#include "lib/base/check.hpp"

namespace plumb {

std::string did_you_mean(std::string_view word, std::span<const std::string> candidates, std::string_view prefix,
                         std::string_view suffix) {
  const std::string nearest = nearest_name(word, candidates);
  return nearest.empty() ? "" : fmt::format("; did you mean {}{}{}?", prefix, nearest, suffix);
}

void throw_not_one_of(std::string_view option, std::string_view got, std::span<const std::string> choices) {
  throw_error<UsageError>("--{} {}: expected one of {}{}", option, got, fmt::join(choices, ", "),
                          did_you_mean(got, choices));
}

}  // namespace plumb
