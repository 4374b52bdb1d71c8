#include "apps/commands/scratch_directory.hpp"

#include <cstdlib>
#include <exception>
#include <filesystem>

#include "io/file/file.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

std::string make_directory() {
  const char* base = std::getenv("TMPDIR");
  std::string path = std::string(base ? base : "/tmp") + "/plumb-XXXXXX";
  if (!mkdtemp(path.data())) throw_errno(path, "create");
  return path;
}

}  // namespace

ScratchDirectory::ScratchDirectory(const Communicator& comm) : comm_(comm), path_(comm.from_rank0(make_directory)) {}

ScratchDirectory::~ScratchDirectory() {
  try {
    if (std::uncaught_exceptions() == 0) comm_.barrier();  // a slower rank may still open files
  } catch (const std::exception& error) {
    log_error("{}: {}", path_, error.what());
  }
  std::error_code ignored;
  if (comm_.rank() == 0) std::filesystem::remove_all(path_, ignored);
}

}  // namespace plumb
