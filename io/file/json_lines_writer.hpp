// A JSON Lines file written line by line, in memory that does not grow with it. It appears complete or not at all.
// Source: jsonlines.org.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"

namespace plumb {

/// Writes under a temporary name beside `path`; without finish() nothing remains.
class JsonLinesWriter {
 public:
  /// Throws InputOutputError, as all below do.
  explicit JsonLinesWriter(const std::string& path);

  /// Bytes that are not UTF-8 become U+FFFD.
  void append(const nlohmann::ordered_json& object);
  int64_t num_lines() const { return num_lines_; }

  /// Publishes the file, replacing another of its name.
  void finish();

 private:
  void flush();

  AtomicFile name_;
  File file_;
  std::string pending_;
  int64_t size_bytes_ = 0;
  int64_t num_lines_ = 0;
};

}  // namespace plumb
