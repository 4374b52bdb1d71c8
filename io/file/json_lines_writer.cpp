#include "io/file/json_lines_writer.hpp"

#include <span>

namespace plumb {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

}  // namespace

JsonLinesWriter::JsonLinesWriter(const std::string& path) : name_(path), file_(File::create(name_.temporary_path())) {}

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
  file_.close();
  name_.publish();
}

}  // namespace plumb
