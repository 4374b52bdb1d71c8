// An HDF5 file that takes its name only when all of it is on the device, for files that others may look for meanwhile.
#pragma once

#include <string>

#include "io/file/hdf5_file.hpp"

namespace plumb {

/// Lies under a temporary name beside `path`; without publish() nothing remains.
class Hdf5Draft {
 public:
  /// Throws InputOutputError.
  explicit Hdf5Draft(const std::string& path);
  ~Hdf5Draft();
  Hdf5Draft(const Hdf5Draft&) = delete;
  Hdf5Draft& operator=(const Hdf5Draft&) = delete;

  Hdf5File& file() { return file_; }
  /// Takes the place of a file of this name; datasets must be closed before. Throws InputOutputError.
  void publish();

 private:
  std::string path_;
  std::string temporary_path_;
  bool is_published_ = false;
  Hdf5File file_;
};

}  // namespace plumb
