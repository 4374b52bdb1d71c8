// A JSON Lines file written line by line, in memory that does not grow with it; it is there when it is complete.
// Source: jsonlines.org.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/file/file.hpp"

namespace plumb {

/// Writes under a temporary name beside `path`; without finish() nothing remains.
class JsonLinesWriter {
 public:
  /// Replaces a temporary file that another run left. Throws InputOutputError, as all below do.
  explicit JsonLinesWriter(const std::string& path);
  ~JsonLinesWriter();
  JsonLinesWriter(const JsonLinesWriter&) = delete;
  JsonLinesWriter& operator=(const JsonLinesWriter&) = delete;

  /// Bytes that are no UTF-8 become U+FFFD.
  void append(const nlohmann::ordered_json& object);
  int64_t num_lines() const { return num_lines_; }

  /// The file takes its name, replacing another, when all of it is on the device.
  void finish();

 private:
  void flush();

  std::string path_;
  std::string temporary_path_;
  File file_;
  std::string pending_;
  int64_t size_bytes_ = 0;
  int64_t num_lines_ = 0;
  bool is_finished_ = false;
};

}  // namespace plumb
