// The state of a run, of a pipeline, or of the runs in a directory, such as the tasks of a sweep: for plumb status.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace plumb {

struct Standing {
  std::string state;         // running, done, stopped, killed, silent, failed
  std::string text;          // human-readable
  std::string summary = {};  // of it, in one line
  nlohmann::ordered_json json;
  std::string active_directory = {};  // of the run or stage that is running or was last; "": none has begun
};

/// A directory that is neither a run nor a pipeline may hold runs directly below; one that needs somebody gives its
/// state to all. Throws InputOutputError where the directory holds no run, and DataError for damaged files.
Standing standing_of(const std::string& directory);

/// The exit code of plumb status: 0 running or done, 70 failed, else 75.
int exit_code_of(const std::string& state);

}  // namespace plumb
