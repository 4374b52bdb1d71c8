#include "apps/run/data_files.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "io/records/data_files.hpp"

namespace plumb {

namespace {

/// Collective: the files of all items, and how many each has. Ranks might see a directory differently for a while, so
/// rank 0 alone looks.
std::vector<std::string> find_files(const Communicator& comm, const std::vector<std::string>& items,
                                    std::vector<int64_t>& files_per_item) {
  std::vector<int64_t> counts;
  std::vector<std::string> files = comm.from_rank0([&] {
    std::vector<std::string> all;
    for (const std::string& item : items) {
      std::vector<std::string> found = find_data_files(item);
      counts.push_back(std::ssize(found));
      std::move(found.begin(), found.end(), std::back_inserter(all));
    }
    return all;
  });
  files_per_item = comm.from_rank0([&] { return counts; });
  return files;
}

}  // namespace

DataOptions with_files(const Communicator& comm, DataOptions o) {
  o.data = find_files(comm, o.data, o.files_per_item);
  return o;
}

TrainOptions with_files(const Communicator& comm, TrainOptions o) {
  std::vector<int64_t> files_per_item;
  o.eval_data = find_files(comm, o.eval_data, files_per_item);
  o.data = with_files(comm, std::move(o.data));
  return o;
}

}  // namespace plumb
