#include "apps/run/data_files.hpp"

#include <utility>

#include "io/records/data_files.hpp"

namespace plumb {

namespace {

/// Collective. Ranks might see a directory differently for a while, so rank 0 alone looks.
DataFiles find_files(const Communicator& comm, const std::vector<std::string>& items) {
  DataFiles files;  // on rank 0
  return {comm.from_rank0([&] { return (files = find_data_files(items)).paths; }),
          comm.from_rank0([&] { return files.files_per_item; })};
}

}  // namespace

DataOptions with_files(const Communicator& comm, DataOptions o) {
  DataFiles files = find_files(comm, o.data);
  o.data = std::move(files.paths);
  o.files_per_item = std::move(files.files_per_item);
  return o;
}

TrainOptions with_files(const Communicator& comm, TrainOptions o) {
  o.eval_data = find_files(comm, o.eval_data).paths;
  o.data = with_files(comm, std::move(o.data));
  o.rl.rollouts = find_files(comm, o.rl.rollouts).paths;
  return o;
}

}  // namespace plumb
