#include "io/records/record_scanner.hpp"

#include <algorithm>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// Lines are long, so searching is much faster than a loop over bytes.
int64_t count_line_ends(std::string_view bytes) {
  int64_t count = 0;
  for (size_t at = bytes.find('\n'); at != std::string_view::npos; at = bytes.find('\n', at + 1)) ++count;
  return count;
}

bool is_json_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

RecordScanner::RecordScanner(const std::string& path, const FileFormat& format)
    : window_(path), format_(format.records), csv_end_(format.separator) {
  check(format_ != RecordFormat::kParquet, "records to scan are text");
  record_ = is_table() ? -1 : 0;
  is_at_array_ = format_ == RecordFormat::kJsonArray;
  window_.read_more();
  const std::string_view head = window_.bytes();
  if (head.starts_with("\xFF\xFE") || head.starts_with("\xFE\xFF")) {
    throw_error<DataError>("{}: offset 0: expected UTF-8, got the byte order mark of UTF-16; convert it with iconv",
                           path);
  }
  if (head.starts_with(kByteOrderMark)) window_.consume(kByteOrderMark.size());
}

void RecordScanner::seek(int64_t record, int64_t offset, int64_t line) {
  window_.seek(offset);
  record_ = record;
  line_ = line;
  num_emitted_bytes_ = 0;
  num_emitted_lines_ = 0;
  is_at_array_ = false;
  is_at_element_ = format_ == RecordFormat::kJsonArray;
}

std::optional<RawRecord> RecordScanner::next() {
  window_.consume(std::exchange(num_emitted_bytes_, 0));
  line_ += std::exchange(num_emitted_lines_, 0);
  return format_ == RecordFormat::kJsonArray ? next_element() : next_line();
}

RawRecord RecordScanner::emit(size_t num_bytes, size_t num_line_end_bytes) {
  check_length(num_bytes);
  const std::string_view bytes = window_.bytes().substr(0, num_bytes);
  const RawRecord raw{place(), window_.offset(), bytes.substr(0, num_bytes - num_line_end_bytes)};
  num_emitted_bytes_ = num_bytes;
  num_emitted_lines_ = count_line_ends(bytes);
  ++record_;
  return raw;
}

void RecordScanner::check_length(size_t num_bytes) const {
  if (static_cast<int64_t>(num_bytes) <= kMaxRecordBytes) return;
  std::string hint = "is this the right format?";
  if (is_table() && csv_end_.is_in_quotes()) {
    const std::string_view before = window_.bytes().substr(0, csv_end_.quote_begin());
    hint = fmt::format("a quote opened on line {} is not closed", line_ + count_line_ends(before));
  }
  throw_error<DataError>("{}: expected a record of at most {} bytes, got a longer one; {}", to_string(place()),
                         kMaxRecordBytes, hint);
}

/// Reads more bytes of the record that begins at the window's start; false at the end of the file.
bool RecordScanner::read_more() {
  check_length(window_.bytes().size());
  return window_.read_more();
}

std::optional<RawRecord> RecordScanner::next_line() {
  for (;;) {
    csv_end_.reset();
    size_t num_seen_bytes = 0;
    size_t num_bytes = 0;
    for (;;) {
      const std::string_view bytes = window_.bytes();
      if (is_table()) {
        num_bytes = csv_end_.find(bytes);
      } else {
        const size_t line_end = bytes.find('\n', num_seen_bytes);
        num_bytes = line_end == std::string_view::npos ? 0 : line_end + 1;
        num_seen_bytes = bytes.size();
      }
      if (num_bytes > 0 || !read_more()) break;
    }
    if (num_bytes == 0) {  // the last line may lack a line end
      num_bytes = window_.bytes().size();
      if (num_bytes == 0) return std::nullopt;
    }
    std::string_view line = window_.bytes().substr(0, num_bytes);
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool is_blank =
        is_table() ? line.empty() : std::all_of(line.begin(), line.end(), [](char c) { return is_json_space(c); });
    if (!is_blank) return emit(num_bytes, num_bytes - line.size());
    window_.consume(num_bytes);
    ++line_;
  }
}

/// The next byte that is not white space, still unread; 0 at the end of the file.
char RecordScanner::peek() {
  for (;;) {
    const std::string_view bytes = window_.bytes();
    const size_t num_spaces =
        static_cast<size_t>(std::find_if_not(bytes.begin(), bytes.end(), is_json_space) - bytes.begin());
    line_ += count_line_ends(bytes.substr(0, num_spaces));
    window_.consume(num_spaces);
    if (!window_.bytes().empty()) return window_.bytes().front();
    if (!window_.read_more()) return '\0';
  }
}

std::optional<RawRecord> RecordScanner::next_element() {
  const auto fail = [&](std::string_view expected, char got) {
    throw_error<DataError>("{}: expected {}, got {}", to_string(place()), expected,
                           got == '\0' ? std::string("the end of the file") : fmt::format("{:?}", got));
  };
  if (!is_at_element_) {
    char c = peek();
    if (is_at_array_) {
      if (c != '[') fail("a JSON array of objects ([{...}, ...]) or an object on each line", c);
    } else if (c != ',' && c != ']') {
      fail("a comma or the end of the array after an element", c);
    }
    if (c != ']') {
      window_.consume(1);
      const char first = peek();
      if (first != '{' && !(is_at_array_ && first == ']')) fail("an object {...}", first);
      c = first;
    }
    if (c == ']') {
      window_.consume(1);
      const char rest = peek();
      if (!window_.bytes().empty()) fail("nothing after the array", rest);
      return std::nullopt;
    }
  }
  is_at_array_ = is_at_element_ = false;
  json_end_.reset();
  for (;;) {
    if (const size_t num_bytes = json_end_.find(window_.bytes()); num_bytes > 0) return emit(num_bytes, 0);
    if (!read_more()) fail("the end of an object", '\0');
  }
}

}  // namespace plumb
