// The name of this machine, as gethostname(2) gives it.
#pragma once

#include <unistd.h>

#include <array>
#include <string>

namespace plumb {

/// "unknown" where the system gives none.
inline std::string host_name() {
  std::array<char, 256> name = {};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

}  // namespace plumb
