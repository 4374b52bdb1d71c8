#include "lib/base/check.hpp"

namespace plumb {

int exit_code(const std::exception& error) {
  const auto* const own = dynamic_cast<const Error*>(&error);
  return own ? own->code() : kExitInternal;
}

void check(bool holds, std::string_view what, std::source_location where) {
  if (!holds) throw std::logic_error(fmt::format("{}:{}: {}", where.file_name(), where.line(), what));
}

}  // namespace plumb
