#include "apps/commands/scratch_directory.hpp"

#include <cstdlib>
#include <filesystem>

#include "io/file/file.hpp"

namespace plumb {

ScratchDirectory::ScratchDirectory(const Communicator& comm) : is_owner_(comm.rank() == 0) {
  comm.run_on_rank0([&] {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base ? base : "/tmp") + "/plumb-XXXXXX";
    if (!mkdtemp(path_.data())) throw_errno(path_, "create");
  });
  comm.broadcast(path_);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  if (is_owner_) std::filesystem::remove_all(path_, ignored);
}

}  // namespace plumb
