#include "lib/base/log_once.hpp"

#include <mutex>
#include <set>

#include "lib/base/log.hpp"

namespace plumb {

void log_info_once(const std::string& message) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(message).second) log_info("{}", message);
}

}  // namespace plumb
