// The files that a name on the command line means: itself, or those that match a pattern.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace plumb {

/// `item` if there is such a file, else, if it has `*`, `?` or `[`, the files that match it as in a shell, ordered by
/// the bytes of their names. Throws InputOutputError if none does, and for a directory, since that may hold test rows
/// too.
std::vector<std::string> find_data_files(const std::string& item);

struct DataFiles {
  std::vector<std::string> paths;       // of all items, in their order
  std::vector<int64_t> files_per_item;  // how many of them each item has
};
DataFiles find_data_files(const std::vector<std::string>& items);

/// Pairs of paths that are the same file, however they are written: the later one, and the earlier.
std::vector<std::pair<std::string, std::string>> find_repeated_files(const std::vector<std::string>& paths);

}  // namespace plumb
