// An HDF5 file that appears complete or not at all (io/file/atomic_file.hpp).
#pragma once

#include <string>

#include "io/file/atomic_file.hpp"
#include "io/file/hdf5_file.hpp"

namespace plumb {

/// Is written under a temporary name beside `path`; without publish() nothing remains.
class AtomicHdf5File {
 public:
  /// Throws InputOutputError.
  explicit AtomicHdf5File(const std::string& path) : name_(path), file_(Hdf5File::create(name_.temporary_path())) {}

  Hdf5File& file() { return file_; }
  /// Replaces a file of this name; datasets must have been closed. Throws InputOutputError.
  void publish() {
    file_.close();
    name_.publish();
  }

 private:
  AtomicFile name_;
  Hdf5File file_;
};

}  // namespace plumb
