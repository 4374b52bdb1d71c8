// Messages about a directory that is opened several times in a run, which are logged once.
#pragma once

#include <string>

namespace plumb {

/// Logs the message at the level info unless this process has logged it so.
void log_info_once(const std::string& message);

}  // namespace plumb
