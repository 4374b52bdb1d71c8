#include "io/file/json_lines_writer.hpp"

#include <unistd.h>

#include <filesystem>
#include <span>

namespace plumb {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

File create_anew(const std::string& path) {
  std::error_code ignored;  // File::create says what is in the way
  std::filesystem::remove(path, ignored);
  return File::create(path);
}

}  // namespace

JsonLinesWriter::JsonLinesWriter(const std::string& path)
    : path_(path), temporary_path_(path + ".tmp-" + std::to_string(::getpid())), file_(create_anew(temporary_path_)) {}

JsonLinesWriter::~JsonLinesWriter() {
  if (is_finished_) return;
  std::error_code ignored;
  std::filesystem::remove(temporary_path_, ignored);
}

void JsonLinesWriter::append(const nlohmann::ordered_json& object) {
  pending_ += object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  pending_ += '\n';
  ++num_lines_;
  if (pending_.size() >= kPieceBytes) flush();
}

void JsonLinesWriter::flush() {
  file_.pwrite_exact(std::as_bytes(std::span(pending_)), size_bytes_);
  size_bytes_ += std::ssize(pending_);
  pending_.clear();
}

void JsonLinesWriter::finish() {
  flush();
  file_.sync();
  file_.close();
  rename_path(temporary_path_, path_);
  is_finished_ = true;
  sync_directory(parent_path(path_));
}

}  // namespace plumb
