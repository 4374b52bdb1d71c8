// Parquet: Arrow parses the file, and what it returns becomes rows. All rows that are counted can be read or are
// refused, rows are found again, and they can be written as JSON.
#include <vector>

#include "io/records/record_file.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

namespace plumb::fuzz {

bool accepts(std::string_view input) {
  constexpr int64_t kMaxRows = 4096;  // a few bytes can stand for any number of equal rows
  const std::string path = input_directory().write("input.parquet", input);
  return is_accepted([&] {
    const RecordIndex index = index_records(path);
    require(RecordIndex::from_bytes(index.to_bytes()) == index, "an index reads back");
    RecordReader reader(path, index);
    std::vector<Record> records;
    while (std::optional<Record> record = reader.next()) {
      require(record->record == std::ssize(records), "rows are numbered");
      record->object.dump();  // throws for text that is not UTF-8
      records.push_back(std::move(*record));
      if (std::ssize(records) == kMaxRows) break;
    }
    require(std::ssize(records) == std::min(index.num_records, kMaxRows), "as many rows as were counted");
    const int64_t middle = std::ssize(records) / 2;
    reader.seek(middle);
    require(reader.next()->object == records[static_cast<size_t>(middle)].object, "a row is found again");
  });
}

}  // namespace plumb::fuzz
