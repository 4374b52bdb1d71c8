#include "io/records/record_format.hpp"

#include <algorithm>
#include <array>

#include "io/records/file_window.hpp"
#include "io/records/json_records.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

std::string extension_of(const std::string& path) {
  const size_t dot = path.find_last_of("./");
  return dot == std::string::npos || path[dot] == '/' ? "" : lower_case(path.substr(dot));
}

/// The format that the name of a file promises.
struct NamedFormat {
  std::string extension;  // without that of the compression
  Compression compression = Compression::kNone;
};

NamedFormat format_of_name(const std::string& path) {
  std::string extension = extension_of(path);
  const Compression compression = extension == ".gz"                            ? Compression::kGzip
                                  : extension == ".zst" || extension == ".zstd" ? Compression::kZstd
                                                                                : Compression::kNone;
  if (compression != Compression::kNone) extension = extension_of(path.substr(0, path.size() - extension.size()));
  return {extension, compression};
}

/// The first non-blank line, as far as it is in `head`, where a line end between quotes ends no line.
std::string_view first_line(std::string_view head) {
  head.remove_prefix(std::min(head.find_first_not_of("\r\n"), head.size()));
  bool is_in_quotes = false;
  for (size_t i = 0; i < head.size(); ++i) {
    if (head[i] == '"') is_in_quotes = !is_in_quotes;
    if (head[i] == '\n' && !is_in_quotes) return head.substr(0, i);
  }
  return head;
}

size_t count_outside_quotes(std::string_view line, char separator) {
  size_t count = 0;
  bool is_in_quotes = false;
  for (const char c : line) {
    if (c == '"') is_in_quotes = !is_in_quotes;
    count += c == separator && !is_in_quotes ? 1 : 0;
  }
  return count;
}

/// The separator that the line of column names has most of; `usual` unless another one has more.
char find_separator(std::string_view head, char usual) {
  const std::string_view names = first_line(head);
  char separator = usual;
  for (const char candidate : {',', ';', '\t', '|'}) {
    if (count_outside_quotes(names, candidate) > count_outside_quotes(names, separator)) separator = candidate;
  }
  return separator;
}

/// Whether an array of objects begins, or an empty one.
bool begins_array(std::string_view head) {
  if (!head.starts_with('[')) return false;
  const size_t next = head.find_first_not_of(kSpaces, 1);
  return next == std::string_view::npos || head[next] == '{' || head[next] == ']';
}

RecordFormat find_json_format(const std::string& path, std::string_view head, bool is_named_array) {
  if (!is_named_array) return begins_array(head) ? RecordFormat::kJsonArray : RecordFormat::kJsonLines;
  if (!head.starts_with('{')) return RecordFormat::kJsonArray;
  const size_t line_end = head.find('\n');
  JsonObjectEnd object;
  if (line_end == std::string_view::npos || object.find(head.substr(0, line_end)) > 0) return RecordFormat::kJsonLines;
  throw_error<DataError>(
      "{}: expected a JSON array of objects ([{{...}}, ...]) or an object on each line, got an object over several "
      "lines; if its rows are under a key of it, write them alone: jq '.KEY' {}",
      path, path);
}

/// The kind of a file that holds no rows, and how to make it one that does.
std::string describe_unknown(std::string_view head) {
  constexpr std::array<std::pair<std::string_view, const char*>, 5> kKnown = {{
      {"BZh", "bzip2; unpack it first"},
      {"\xFD"
       "7zXZ",
       "xz; unpack it first"},
      {"PK\x03\x04", "a zip archive; unpack it first"},
      {"ARROW1", "an Arrow file; write it as Parquet"},
      {"\x04\x22\x4D\x18", "lz4; unpack it first"},
  }};
  if (head.empty()) return "an empty file";
  for (const auto& [mark, name] : kKnown) {
    if (head.starts_with(mark)) return name;
  }
  return "a file of another kind";
}

void check_compression(const std::string& path, Compression named, Compression found) {
  if (named == Compression::kNone || named == found) return;
  throw_error<DataError>("{}: expected {} data, as the name says, got {}; give it the name of what it is", path,
                         name_of(named), found == Compression::kNone ? "other bytes" : name_of(found));
}

}  // namespace

std::string describe(const FileFormat& format) {
  constexpr std::string_view kNames[] = {"CSV", "JSON Lines", "JSON array", "Parquet"};
  std::string name(kNames[static_cast<size_t>(format.records)]);
  if (format.records == RecordFormat::kTable && format.separator == '\t') name = "TSV";
  if (format.records == RecordFormat::kTable && format.separator != '\t' && format.separator != ',') {
    name += fmt::format(" separated by {}", format.separator);
  }
  if (format.compression != Compression::kNone) name += fmt::format(", {}", name_of(format.compression));
  return name;
}

std::string_view name_of_separator(char separator) {
  switch (separator) {
    case '\t':
      return "tab";
    case ';':
      return "semicolon";
    case '|':
      return "vertical bar";
    default:
      return "comma";
  }
}

FileFormat find_file_format(const std::string& path) {
  const auto [extension, named_compression] = format_of_name(path);
  FileWindow window(path);
  const Compression compression = window.file().compression();
  check_compression(path, named_compression, compression);
  window.read_more();
  std::string_view head = window.bytes();
  if (head.starts_with("\xEF\xBB\xBF")) head.remove_prefix(3);
  if (extension == ".csv" || extension == ".tsv") {
    const char separator = find_separator(head, extension == ".tsv" ? '\t' : ',');
    return {.records = RecordFormat::kTable, .separator = separator, .compression = compression};
  }
  if (head.starts_with("PAR1") || extension == ".parquet") {
    if (compression == Compression::kNone) return {.records = RecordFormat::kParquet};
    throw_error<DataError>("{}: expected Parquet as it is, got it compressed once more; unpack it first", path);
  }
  const std::string_view start = head;
  head.remove_prefix(std::min(head.find_first_not_of(kSpaces), head.size()));
  const bool is_lines = extension == ".jsonl" || extension == ".ndjson";
  if (is_lines || extension == ".json" || head.starts_with('{') || head.starts_with('[')) {
    const bool is_named_array = !is_lines && (extension == ".json" || head.starts_with('['));
    return {.records = find_json_format(path, head, is_named_array), .compression = compression};
  }
  throw_error<DataError>(
      "{}: expected a name in .csv, .tsv, .jsonl, .ndjson, .json or .parquet, the first five also followed by .gz or "
      ".zst, or JSON inside; got {}",
      path, describe_unknown(start));
}

}  // namespace plumb
