#include "io/file/atomic_hdf5_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "io/file/file.hpp"

namespace plumb {
namespace {

std::string make_temporary_path(const std::string& path) {
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  std::string temporary = fmt::format("{}.tmp-{}-{}", path, host, ::getpid());
  ::unlink(temporary.c_str());  // of a process that had this id and was killed
  return temporary;
}

}  // namespace

Hdf5Draft::Hdf5Draft(const std::string& path)
    : path_(path), temporary_path_(make_temporary_path(path)), file_(Hdf5File::create(temporary_path_)) {}

Hdf5Draft::~Hdf5Draft() {
  if (!is_published_) ::unlink(temporary_path_.c_str());
}

void Hdf5Draft::publish() {
  file_.close();
  File::open_for_writing(temporary_path_).sync();
  rename_path(temporary_path_, path_);
  is_published_ = true;
  sync_directory(parent_path(path_));
}

}  // namespace plumb
