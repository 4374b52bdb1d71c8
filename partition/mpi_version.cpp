#include "partition/mpi_version.hpp"

#include <mpi.h>

#include <array>

namespace plumb {

std::string mpi_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text = {};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data(), length);
  return whole.substr(0, whole.find_first_of(",\n"));
}

}  // namespace plumb
