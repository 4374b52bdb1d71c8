// The version of the HDF5 library that this process has loaded.
#pragma once

#include <string>

namespace plumb {

/// "1.10.8"
std::string hdf5_version();

}  // namespace plumb
