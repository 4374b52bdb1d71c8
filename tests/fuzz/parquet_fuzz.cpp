// Parquet: Arrow parses the file, and what it returns becomes rows. All rows that are counted can be read or are
// refused, rows are found again, and they can be written as JSON. An input that is no Parquet spells Arrow's types and
// values, and what is written to Parquet of them is read as the same rows.
#include <arrow/io/file.h>
#include <arrow/table.h>
#include <parquet/arrow/writer.h>

#include <vector>

#include "io/records/arrow_json.hpp"
#include "io/records/record_file.hpp"
#include "tests/fuzz/arrow_input.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

namespace plumb::fuzz {

namespace {

using Rows = std::vector<nlohmann::ordered_json>;

Rows read_rows(const std::string& path) {
  constexpr int64_t kMaxRows = 4096;  // a few bytes can stand for any number of equal rows
  const RecordIndex index = index_records(path);
  require(RecordIndex::from_bytes(index.to_bytes()) == index, "an index reads back");
  RecordReader reader(path, index);
  Rows rows;
  while (std::optional<Record> record = reader.next()) {
    require(record->record == std::ssize(rows), "rows are numbered");
    record->object.dump();  // throws for text that is not UTF-8
    rows.push_back(std::move(record->object));
    if (std::ssize(rows) == kMaxRows) break;
  }
  require(std::ssize(rows) == std::min(index.num_records, kMaxRows), "as many rows as were counted");
  const size_t middle = rows.size() / 2;
  reader.seek(static_cast<int64_t>(middle));
  require(reader.next()->object == rows[middle], "a row is found again");
  return rows;
}

/// False where Parquet lacks a type.
bool write_parquet(const arrow::RecordBatch& batch, const std::string& path) {
  constexpr int64_t kGroupRows = 3;
  const auto table = arrow::Table::FromRecordBatches({batch.Slice(0)});
  const auto file = arrow::io::FileOutputStream::Open(path);
  if (!table.ok() || !file.ok()) return false;
  const auto with_types = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  return parquet::arrow::WriteTable(**table, arrow::default_memory_pool(), *file, kGroupRows,
                                    parquet::default_writer_properties(), with_types)
             .ok() &&
         (*file)->Close().ok();
}

bool accepts_arrays(std::string_view input) {
  std::shared_ptr<arrow::RecordBatch> batch;
  Rows rows;
  const auto read = [&](const arrow::RecordBatch& from, int64_t row) { return ArrowRows().row(from, row, "input"); };
  const bool is_read = is_accepted([&] {
    ArrowInput arrow_input(input);
    const std::shared_ptr<arrow::Schema> schema = arrow_input.schema();
    check_schema(*schema, "input");
    batch = arrow_input.rows(schema);
    for (int64_t i = 0; i < batch->num_rows(); ++i) rows.push_back(read(*batch, i));
  });
  if (!is_read) return false;
  for (int64_t i = 0; i < batch->num_rows(); ++i) {
    const nlohmann::ordered_json& row = rows[static_cast<size_t>(i)];
    row.dump();
    require(row == read(*batch->Slice(i), 0), "a row is the same in a part of the batch");
    require(std::ssize(row) == batch->num_columns(), "all columns are in a row");
    for (int column = 0; column < batch->num_columns(); ++column) {
      const bool is_null = row.at(batch->column_name(column)).is_null();
      require(is_null || !batch->column(column)->IsNull(i), "a null is null");
    }
  }
  const std::string path = input_directory().write("written.parquet", "");
  if (batch->ValidateFull().ok() && write_parquet(*batch, path)) require(read_rows(path) == rows, "Parquet keeps rows");
  return true;
}

}  // namespace

bool accepts(std::string_view input) {
  if (!input.starts_with("PAR1")) return accepts_arrays(input);
  const std::string path = input_directory().write("input.parquet", input);
  return is_accepted([&] { read_rows(path); });
}

}  // namespace plumb::fuzz
