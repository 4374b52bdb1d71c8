#include "apps/commands/scratch_directory.hpp"

#include <cstdlib>
#include <filesystem>

#include "io/file/file.hpp"

namespace plumb {

namespace {

std::string make_directory() {
  const char* base = std::getenv("TMPDIR");
  std::string path = std::string(base ? base : "/tmp") + "/plumb-XXXXXX";
  if (!mkdtemp(path.data())) throw_errno(path, "create");
  return path;
}

}  // namespace

ScratchDirectory::ScratchDirectory(const Communicator& comm)
    : path_(comm.from_rank0(make_directory)), is_owner_(comm.rank() == 0) {}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  if (is_owner_) std::filesystem::remove_all(path_, ignored);
}

}  // namespace plumb
