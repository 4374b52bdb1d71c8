// Files of pairs that a stage makes for itself: named by a hash of all that they were made from and used again as long
// as that is the same, with a summary beside them of how they came about.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "partition/communicator.hpp"

namespace plumb {

struct PairFiles {
  std::vector<std::string> names;  // in the directory
  nlohmann::json counts;           // whatever the maker wants to be told again
};

/// Collective: what make() left in `directory`, now or in an earlier run. make(prefix) is collective, writes files
/// whose names begin with the prefix "<kind>-<hash of made_from>" and returns, on rank 0 at least, what it made.
/// made_from is the same on all ranks.
PairFiles make_pair_files_once(const Communicator& comm, const std::string& directory, const std::string& kind,
                               const nlohmann::json& made_from,
                               const std::function<PairFiles(const std::string& prefix)>& make);

}  // namespace plumb
