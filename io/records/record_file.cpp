#include "io/records/record_file.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {
namespace {

constexpr int64_t kIndexMagic = 0x31584449'424D4C50;  // "PLMBIDX1" as little-endian bytes

void check_text(const RawRecord& raw) {
  if (const size_t zero = raw.bytes.find('\0'); zero != std::string_view::npos) {
    throw_error<DataError>("{}: byte {}: expected text, got a NUL byte; is the file UTF-16 or compressed?",
                           to_string(raw.place), zero);
  }
  check_utf8(raw.bytes, to_string(raw.place));
}

std::vector<std::string> parse_header(const RawRecord& raw, RecordFormat format) {
  check_text(raw);
  std::vector<std::string> names;
  split_csv_record(raw.bytes, delimiter_of(format), raw.place, names);
  std::set<std::string_view> seen;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) {
      throw_error<DataError>("{}: expected a name for every column, got none for column {}; the first line names them",
                             to_string(raw.place), i + 1);
    }
    if (!seen.insert(names[i]).second) {
      throw_error<DataError>("{}: expected column names that differ, got \"{}\" twice", to_string(raw.place), names[i]);
    }
  }
  return names;
}

std::string extension_of(const std::string& path) {
  const size_t dot = path.find_last_of("./");
  if (dot == std::string::npos || path[dot] == '/') return "";
  std::string extension = path.substr(dot);
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return extension;
}

/// Reads the output of to_bytes() without trusting any size in it.
class IndexBytes {
 public:
  explicit IndexBytes(std::string_view bytes) : bytes_(bytes) {}

  int64_t number() {
    int64_t value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view take(size_t num_bytes) {
    require(num_bytes <= bytes_.size(), "more bytes");
    const std::string_view taken = bytes_.substr(0, num_bytes);
    bytes_.remove_prefix(num_bytes);
    return taken;
  }
  size_t count(size_t min_bytes_each) {
    const int64_t value = number();
    require(value >= 0 && static_cast<uint64_t>(value) <= bytes_.size() / min_bytes_each, "a count that fits");
    return static_cast<size_t>(value);
  }
  bool is_empty() const { return bytes_.empty(); }

  static void require(bool holds, std::string_view expected) {
    if (!holds) throw_error<DataError>("record index: expected {}, got other bytes", expected);
  }

 private:
  std::string_view bytes_;
};

}  // namespace

std::string RecordIndex::to_bytes() const {
  std::string bytes;
  const auto put = [&](int64_t value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const int64_t value : {kIndexMagic, static_cast<int64_t>(format), num_records, file_bytes}) put(value);
  put(static_cast<int64_t>(header.size()));
  for (const std::string& name : header) {
    put(static_cast<int64_t>(name.size()));
    bytes += name;
  }
  put(static_cast<int64_t>(offsets.size()));
  for (size_t i = 0; i < offsets.size(); ++i) put(offsets[i]), put(lines[i]);
  return bytes;
}

RecordIndex RecordIndex::from_bytes(std::string_view bytes) {
  IndexBytes in(bytes);
  IndexBytes::require(in.number() == kIndexMagic, "its own mark at the front");
  RecordIndex index;
  const int64_t format = in.number();
  IndexBytes::require(format >= 0 && format <= static_cast<int64_t>(RecordFormat::kJsonArray), "a known format");
  index.format = static_cast<RecordFormat>(format);
  index.num_records = in.number();
  index.file_bytes = in.number();
  index.header.resize(in.count(sizeof(int64_t)));
  for (std::string& name : index.header) name = in.take(in.count(1));
  const size_t num_entries = in.count(2 * sizeof(int64_t));
  IndexBytes::require(index.num_records >= 0 && index.num_records <= index.file_bytes &&
                          num_entries == (static_cast<size_t>(index.num_records) + kStride - 1) / kStride,
                      "an entry for every 1024 records");
  for (size_t i = 0; i < num_entries; ++i) {
    const int64_t offset = in.number();
    const int64_t line = in.number();
    IndexBytes::require(offset > (i == 0 ? -1 : index.offsets.back()) && offset < index.file_bytes,
                        "ascending offsets");
    IndexBytes::require(line >= (i == 0 ? 1 : index.lines.back()), "ascending lines");
    index.offsets.push_back(offset);
    index.lines.push_back(line);
  }
  IndexBytes::require(in.is_empty(), "no more bytes");
  return index;
}

RecordFormat find_record_format(const std::string& path) {
  const std::string extension = extension_of(path);
  if (extension == ".csv") return RecordFormat::kCsv;
  if (extension == ".tsv") return RecordFormat::kTsv;
  if (extension == ".jsonl" || extension == ".ndjson") return RecordFormat::kJsonLines;
  if (extension == ".json") return RecordFormat::kJsonArray;

  FileWindow window(path);
  window.read_more();
  std::string_view head = window.bytes();
  std::string got = "a file of another kind";
  if (head.empty()) got = "an empty file";
  if (head.starts_with("PAR1")) got = "Parquet";
  if (head.starts_with("\x1F\x8B") || head.starts_with("\x28\xB5\x2F\xFD")) got = "compressed data; unpack it first";
  if (head.starts_with("\xEF\xBB\xBF")) head.remove_prefix(3);
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  if (head.starts_with('{')) return RecordFormat::kJsonLines;
  if (head.starts_with('[')) return RecordFormat::kJsonArray;
  throw_error<DataError>("{}: expected a name in .csv, .tsv, .jsonl, .ndjson or .json, or JSON inside; got {}", path,
                         got);
}

RecordIndex index_records(const std::string& path) {
  RecordIndex index;
  index.format = find_record_format(path);
  RecordScanner scanner(path, index.format);
  index.file_bytes = scanner.window().size_bytes();
  if (scanner.window().bytes().empty()) throw_error<DataError>("{}: expected rows, got an empty file", path);
  if (is_table(index.format)) {
    const std::optional<RawRecord> header = scanner.next();
    if (!header) throw_error<DataError>("{}: expected a line of column names, got blank lines only", path);
    index.header = parse_header(*header, index.format);
  }
  while (const std::optional<RawRecord> raw = scanner.next()) {
    if (index.num_records++ % RecordIndex::kStride != 0) continue;
    index.offsets.push_back(raw->offset);
    index.lines.push_back(raw->place.line);
  }
  if (index.num_records == 0) {
    throw_error<DataError>("{}: expected rows, got none{}", path, is_table(index.format) ? " below the header" : "");
  }
  return index;
}

RecordReader::RecordReader(const std::string& path, RecordIndex index)
    : index_(std::move(index)), scanner_(path, index_.format) {
  const FileWindow& window = scanner_.window();
  if (window.size_bytes() != index_.file_bytes) {
    throw_error<DataError>("{}: expected the file that was indexed ({} bytes), got one changed since ({} bytes)", path,
                           index_.file_bytes, window.size_bytes());
  }
  seek(0);
}

void RecordReader::seek(int64_t record) {
  check(record >= 0 && record <= index_.num_records, "a record to seek lies within the file");
  next_record_ = record;
  if (record == index_.num_records) return;
  const size_t entry = static_cast<size_t>(record / RecordIndex::kStride);
  const int64_t first = static_cast<int64_t>(entry) * RecordIndex::kStride;
  scanner_.seek(first, index_.offsets[entry], index_.lines[entry]);
  for (int64_t skipped = first; skipped < record; ++skipped) next_raw();
}

std::optional<Record> RecordReader::next() {
  if (next_record_ == index_.num_records) return std::nullopt;
  const RawRecord raw = next_raw();
  ++next_record_;
  check_text(raw);
  return Record{raw.place.record, raw.place.line,
                is_table(index_.format) ? parse_table_row(raw) : parse_json_object(raw.bytes, raw.place)};
}

std::string RecordReader::where(const Record& record) const {
  return to_string(RecordPlace{scanner_.window().path(), record.line, record.record});
}

RawRecord RecordReader::next_raw() {
  const std::optional<RawRecord> raw = scanner_.next();
  if (!raw) {
    throw_error<DataError>("{}: expected {} rows, got fewer; the file was changed while it was read",
                           scanner_.window().path(), index_.num_records);
  }
  return *raw;
}

nlohmann::ordered_json RecordReader::parse_table_row(const RawRecord& raw) {
  split_csv_record(raw.bytes, delimiter_of(index_.format), raw.place, cells_);
  if (cells_.size() != index_.header.size()) {
    throw_error<DataError>(
        "{}: expected {} fields as in the header, got {}; a cell that holds the separator must be quoted",
        to_string(raw.place), index_.header.size(), cells_.size());
  }
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  auto& entries = object.get_ref<nlohmann::ordered_json::object_t&>();
  // the names of a header differ, so none is searched for
  for (size_t i = 0; i < cells_.size(); ++i) entries.push_back({index_.header[i], cells_[i]});
  return object;
}

}  // namespace plumb
