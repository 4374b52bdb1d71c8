// Files of pairs that a stage makes. Their names contain a hash of all inputs, so that a later run reuses them while
// the inputs are unchanged; a summary of how they were made is stored beside them.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "partition/communicator.hpp"

namespace plumb {

struct PairFiles {
  std::vector<std::string> names;  // file names
  nlohmann::json counts;           // statistics for the caller, stored in the summary
};

/// Collective: the pair files in `directory`, made by make() now or in an earlier run. make(prefix) is collective,
/// writes files whose names begin with the prefix "<kind>-<hash of made_from>" and returns them, at least on rank 0.
/// made_from must be the same on all ranks.
PairFiles make_pair_files_once(const Communicator& comm, const std::string& directory, const std::string& kind,
                               const nlohmann::json& made_from,
                               const std::function<PairFiles(const std::string& prefix)>& make);

}  // namespace plumb
