// A directory that all ranks of a test share; rank 0 creates and removes it.
#pragma once

#include <memory>
#include <string>

#include "lib/base/check.hpp"
#include "partition/communicator.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {

class SharedDirectory {
 public:
  /// Collective: creates it.
  explicit SharedDirectory(const Communicator& comm) : comm_(comm) {
    if (comm.rank() == 0) owned_ = std::make_unique<TemporaryDirectory>();
    path_ = owned_ ? owned_->path() : "";
    comm.broadcast(path_);
  }
  /// Collective: removes it.
  ~SharedDirectory() { comm_.barrier(); }
  SharedDirectory(const SharedDirectory&) = delete;
  SharedDirectory& operator=(const SharedDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  /// Collective: the file exists when it returns.
  void write(const std::string& name, std::string_view content) const {
    comm_.barrier();
    if (owned_) owned_->write(name, content);
    comm_.barrier();
  }
  std::string read(const std::string& name) const {
    std::ostringstream content;
    content << std::ifstream(*this / name, std::ios::binary).rdbuf();
    return content.str();
  }
  /// Collective: number of entries in the directory, including hidden ones.
  int64_t num_entries() const {
    comm_.barrier();
    int64_t num = owned_ ? static_cast<int64_t>(owned_->num_entries()) : 0;
    comm_.max({&num, 1});
    return num;
  }

 private:
  const Communicator& comm_;
  std::unique_ptr<TemporaryDirectory> owned_;
  std::string path_;
};

/// Collective: expects that all ranks throw AgreedError with this code, and returns its message.
template <class Call>
std::string agreed_message_of(ExitCode code, Call call) {
  try {
    call();
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "expected an agreed error";
  return "";
}

}  // namespace plumb
