#include "io/records/record_file.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {
namespace {

constexpr int64_t kIndexMagic = 0x32584449'424D4C50;  // "PLMBIDX2" as little-endian bytes

void check_text(const RawRecord& raw) {
  if (const size_t zero = raw.bytes.find('\0'); zero != std::string_view::npos) {
    throw_error<DataError>("{}: byte {}: expected text, got a NUL byte; is the file UTF-16 or compressed?",
                           to_string(raw.place), zero);
  }
  check_utf8(raw.bytes, to_string(raw.place));
}

std::vector<std::string> parse_header(const RawRecord& raw, char separator) {
  check_text(raw);
  std::vector<std::string> names;
  split_csv_record(raw.bytes, separator, raw.place, names);
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
  for (const int64_t value : {kIndexMagic, static_cast<int64_t>(format.records), int64_t{format.separator},
                              static_cast<int64_t>(format.compression), num_records, file_bytes, text_bytes}) {
    put(value);
  }
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
  const auto enumerator = [&](auto last) {
    const int64_t value = in.number();
    IndexBytes::require(value >= 0 && value <= static_cast<int64_t>(last), "a known format");
    return static_cast<decltype(last)>(value);
  };
  index.format.records = enumerator(RecordFormat::kParquet);
  index.format.separator = enumerator('\x7F');
  index.format.compression = enumerator(Compression::kZstd);
  index.num_records = in.number();
  index.file_bytes = in.number();
  index.text_bytes = in.number();
  index.header.resize(in.count(sizeof(int64_t)));
  for (std::string& name : index.header) name = in.take(in.count(1));
  const size_t num_entries = in.count(2 * sizeof(int64_t));
  const bool is_text = index.format.records != RecordFormat::kParquet;
  IndexBytes::require(index.num_records >= 0 && (!is_text || index.num_records <= index.text_bytes),
                      "rows in the text");
  const size_t num_strides = (static_cast<size_t>(index.num_records) + kStride - 1) / kStride;
  IndexBytes::require(num_entries == (is_text ? num_strides : 0), "an entry for every 1024 records");
  for (size_t i = 0; i < num_entries; ++i) {
    const int64_t offset = in.number();
    const int64_t line = in.number();
    IndexBytes::require(offset > (i == 0 ? -1 : index.offsets.back()) && offset < index.text_bytes,
                        "ascending offsets");
    IndexBytes::require(line >= (i == 0 ? 1 : index.lines.back()), "ascending lines");
    index.offsets.push_back(offset);
    index.lines.push_back(line);
  }
  IndexBytes::require(in.is_empty(), "no more bytes");
  return index;
}

namespace {

RecordIndex index_parquet(const std::string& path, const FileFormat& format) {
  const ParquetFile file(path);
  RecordIndex index;
  index.format = format;
  index.num_records = file.num_rows();
  index.file_bytes = file.size_bytes();
  return index;
}

RecordIndex index_text(const std::string& path, const FileFormat& format) {
  RecordIndex index;
  index.format = format;
  RecordScanner scanner(path, format);
  const FileWindow& window = scanner.window();
  index.file_bytes = window.file().size_bytes();
  if (window.bytes().empty()) throw_error<DataError>("{}: expected rows, got an empty file", path);
  if (format.records == RecordFormat::kTable) {
    const std::optional<RawRecord> header = scanner.next();
    if (!header) throw_error<DataError>("{}: expected a line of column names, got blank lines only", path);
    index.header = parse_header(*header, format.separator);
  }
  while (const std::optional<RawRecord> raw = scanner.next()) {
    if (index.num_records++ % RecordIndex::kStride != 0) continue;
    index.offsets.push_back(raw->offset);
    index.lines.push_back(raw->place.line);
  }
  index.text_bytes = window.offset() + std::ssize(window.bytes());
  return index;
}

}  // namespace

RecordIndex index_records(const std::string& path) {
  const FileFormat format = find_file_format(path);
  RecordIndex index = format.records == RecordFormat::kParquet ? index_parquet(path, format) : index_text(path, format);
  if (index.num_records == 0) {
    const bool is_table = format.records == RecordFormat::kTable;
    throw_error<DataError>("{}: expected rows, got none{}", path, is_table ? " below the header" : "");
  }
  return index;
}

RecordReader::RecordReader(const std::string& path, RecordIndex index) : path_(path), index_(std::move(index)) {
  if (index_.format.records == RecordFormat::kParquet) {
    check_size(parquet_.emplace(path).size_bytes());
    if (parquet_->num_rows() == index_.num_records) return;
    throw_error<DataError>("{}: expected the {} rows that were counted, got {}; the file was changed while it was read",
                           path, index_.num_records, parquet_->num_rows());
  }
  check_size(scanner_.emplace(path, index_.format).window().file().size_bytes());
  seek(0);
}

void RecordReader::check_size(int64_t file_bytes) const {
  if (file_bytes == index_.file_bytes) return;
  throw_error<DataError>("{}: expected the file that was indexed ({} bytes), got one changed since ({} bytes)", path_,
                         index_.file_bytes, file_bytes);
}

void RecordReader::seek(int64_t record) {
  check(record >= 0 && record <= index_.num_records, "a record to seek lies within the file");
  next_record_ = record;
  if (record == index_.num_records) return;
  if (parquet_) return parquet_->seek(record);
  const size_t entry = static_cast<size_t>(record / RecordIndex::kStride);
  const int64_t first = static_cast<int64_t>(entry) * RecordIndex::kStride;
  scanner_->seek(first, index_.offsets[entry], index_.lines[entry]);
  for (int64_t skipped = first; skipped < record; ++skipped) next_raw();
}

std::optional<Record> RecordReader::next() {
  if (next_record_ == index_.num_records) return std::nullopt;
  const int64_t record = next_record_++;
  if (parquet_) return Record{record, 0, parquet_->next()};
  const RawRecord raw = next_raw();
  check_text(raw);
  return Record{raw.place.record, raw.place.line, parse(raw)};
}

std::string RecordReader::where(const Record& record) const {
  return to_string(RecordPlace{path_, record.line, record.record});
}

RawRecord RecordReader::next_raw() {
  const std::optional<RawRecord> raw = scanner_->next();
  if (!raw) {
    throw_error<DataError>("{}: expected {} rows, got fewer; the file was changed while it was read", path_,
                           index_.num_records);
  }
  return *raw;
}

nlohmann::ordered_json RecordReader::parse(const RawRecord& raw) {
  const bool is_table = index_.format.records == RecordFormat::kTable;
  return is_table ? parse_table_row(raw) : parse_json_object(raw.bytes, raw.place);
}

nlohmann::ordered_json RecordReader::parse_table_row(const RawRecord& raw) {
  split_csv_record(raw.bytes, index_.format.separator, raw.place, cells_);
  if (cells_.size() != index_.header.size()) {
    throw_error<DataError>(
        "{}: expected {} fields as in the header, got {}, separated by {}; a cell that holds the separator must be "
        "quoted",
        to_string(raw.place), index_.header.size(), cells_.size(), name_of_separator(index_.format.separator));
  }
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  auto& entries = object.get_ref<nlohmann::ordered_json::object_t&>();
  // the names of a header differ, so none is searched for
  for (size_t i = 0; i < cells_.size(); ++i) entries.push_back({index_.header[i], cells_[i]});
  return object;
}

}  // namespace plumb
