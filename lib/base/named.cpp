#include "lib/base/named.hpp"

#include <fmt/ranges.h>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

void throw_not_one_of(std::string_view option, std::string_view got, std::span<const std::string> choices) {
  throw_error<UsageError>("--{} {}: expected one of {}{}", option, got, fmt::join(choices, ", "),
                          did_you_mean(got, choices));
}

}  // namespace plumb
