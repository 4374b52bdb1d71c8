#include "io/records/parquet.hpp"

#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>
#include <parquet/properties.h>

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/records/arrow_json.hpp"
#include "io/records/data_file.hpp"
#include "io/records/record_place.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr int64_t kBatchBytes = int64_t{4} << 20;
constexpr int64_t kMaxBatchRows = 1024;
constexpr int64_t kBufferBytes = int64_t{1} << 20;

[[noreturn]] void throw_damaged(const std::string& where, std::string reason) {
  constexpr size_t kMaxReasonBytes = 300;
  if (reason.size() > kMaxReasonBytes) reason.resize(kMaxReasonBytes);
  throw_error<DataError>("{}: expected Parquet, got other data: {}", where, reason);
}

/// The value of `call`, which returns a Result or a Status of Arrow. Its errors, thrown ones too, become DataError.
template <class Call>
auto call_arrow(const std::string& where, const Call& call) {
  try {
    auto result = call();
    if (!result.ok()) throw_damaged(where, arrow::ToStatus(result).ToString());
    if constexpr (!std::is_same_v<decltype(result), arrow::Status>) return std::move(result).ValueUnsafe();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw_damaged(where, error.what());
  }
}

/// Rows per batch, so that a batch takes a few megabytes whatever the rows are.
int64_t batch_rows(const parquet::FileMetaData& metadata) {
  int64_t num_bytes = 0;
  for (int i = 0; i < metadata.num_row_groups(); ++i) {
    num_bytes += std::max<int64_t>(0, metadata.RowGroup(i)->total_byte_size()) >> 10;
  }
  const int64_t row_bytes = 1 + (num_bytes << 10) / std::max<int64_t>(1, metadata.num_rows());
  return std::clamp<int64_t>(kBatchBytes / row_bytes, 1, kMaxBatchRows);
}

}  // namespace

struct ParquetFile::State {
  explicit State(const std::string& file_path) : path(file_path), size_bytes(DataFile(file_path).size_bytes()) {
    call_arrow(path, [&] { return open(); });
    std::shared_ptr<arrow::Schema> schema;
    call_arrow(path, [&] { return reader->GetSchema(&schema); });
    check_schema(*schema, path);
  }

  arrow::Status open() {
    arrow::MemoryPool* const pool = arrow::system_memory_pool();
    ARROW_ASSIGN_OR_RAISE(auto file, arrow::io::ReadableFile::Open(path, pool));
    parquet::ReaderProperties properties(pool);
    properties.enable_buffered_stream();  // else a column of a whole row group is in memory
    properties.set_buffer_size(kBufferBytes);
    properties.set_page_checksum_verification(true);
    parquet::arrow::FileReaderBuilder builder;
    ARROW_RETURN_NOT_OK(builder.Open(std::move(file), properties));
    const std::shared_ptr<parquet::FileMetaData> metadata = builder.raw_reader()->metadata();
    group_begins.push_back(0);
    for (int i = 0; i < metadata->num_row_groups(); ++i) {
      const int64_t num_rows = metadata->RowGroup(i)->num_rows();
      if (num_rows < 0 || num_rows > metadata->num_rows() - group_begins.back()) {
        return arrow::Status::Invalid("row groups hold more rows than the file");
      }
      group_begins.push_back(group_begins.back() + num_rows);
    }
    if (group_begins.back() != metadata->num_rows()) return arrow::Status::Invalid("row groups lack rows of the file");
    parquet::ArrowReaderProperties reading;
    reading.set_use_threads(false);
    reading.set_pre_buffer(false);
    reading.set_batch_size(batch_rows(*metadata));
    reading.set_arrow_extensions_enabled(true);  // columns of JSON, which `datasets` writes, are known as such
    ARROW_ASSIGN_OR_RAISE(reader, builder.memory_pool(pool)->properties(reading)->Build());
    return arrow::Status::OK();
  }

  size_t group_of(int64_t row) const {
    const auto after = std::upper_bound(group_begins.begin(), group_begins.end(), row);
    return static_cast<size_t>(after - group_begins.begin()) - 1;
  }

  /// Row groups from `group` on.
  void start(size_t group) {
    std::vector<int> groups(group_begins.size() - 1 - group);
    std::iota(groups.begin(), groups.end(), static_cast<int>(group));
    batch = nullptr;
    batches = call_arrow(where(), [&] { return reader->GetRecordBatchReader(groups); });
  }

  /// Makes row `next_row` that of `batch` at `index`.
  void read_batch() {
    while (!batch || index >= batch->num_rows()) {
      index -= batch ? batch->num_rows() : 0;
      batch = call_arrow(where(), [&] { return batches->Next(); });
      if (!batch) throw_damaged(where(), fmt::format("fewer than {} rows", group_begins.back()));
    }
  }

  std::string where() const { return to_string(RecordPlace{path, 0, next_row}); }

  std::string path;
  int64_t size_bytes = 0;
  std::vector<int64_t> group_begins;  // the first row of each row group, then the number of rows
  std::unique_ptr<parquet::arrow::FileReader> reader;
  std::unique_ptr<arrow::RecordBatchReader> batches;  // null before the first row is read
  std::shared_ptr<arrow::RecordBatch> batch;
  int64_t index = 0;  // of next_row in what follows the start of `batch`
  int64_t next_row = 0;
  ArrowRows rows;
};

ParquetFile::ParquetFile(const std::string& path) : state_(std::make_unique<State>(path)) {}
ParquetFile::~ParquetFile() = default;
ParquetFile::ParquetFile(ParquetFile&& other) noexcept = default;

int64_t ParquetFile::num_rows() const { return state_->group_begins.back(); }
int64_t ParquetFile::size_bytes() const { return state_->size_bytes; }

void ParquetFile::seek(int64_t row) {
  State& state = *state_;
  check(row >= 0 && row <= num_rows(), "a row to seek lies within the file");
  const int64_t before = std::exchange(state.next_row, row);
  if (row == num_rows()) {
    state.batches = nullptr;  // so that a later row opens them again
    return;
  }
  const size_t group = state.group_of(row);
  if (state.batches && row >= before && state.group_of(before) == group) {
    state.index += row - before;
    return;
  }
  state.start(group);
  state.index = row - state.group_begins[group];
}

nlohmann::ordered_json ParquetFile::next() {
  State& state = *state_;
  check(state.next_row < num_rows(), "there is a next row");
  if (!state.batches) seek(state.next_row);  // before the first row
  state.read_batch();
  nlohmann::ordered_json row = state.rows.row(*state.batch, state.index, state.where());
  ++state.index;
  ++state.next_row;
  return row;
}

}  // namespace plumb
