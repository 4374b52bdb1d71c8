// Tables: the first byte chooses the name, whose separator is the usual one. Every record is at the offset in the
// index, and records written again with quotes round-trip.
#include <algorithm>
#include <vector>

#include "io/records/record_file.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

namespace plumb::fuzz {

namespace {

std::string quoted(const std::string& cell) {
  std::string text = "\"";
  for (const char c : cell) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + "\"";
}

std::string render(const RecordIndex& index, const std::vector<Record>& records) {
  const char delimiter = index.format.separator;
  std::string text;
  for (const std::string& name : index.header) text += (text.empty() ? "" : std::string(1, delimiter)) + quoted(name);
  text += "\n";
  for (const Record& record : records) {
    std::string line;
    for (const std::string& name : index.header)
      line += (line.empty() ? "" : std::string(1, delimiter)) + quoted(record.object.at(name).get<std::string>());
    text += line + "\n";
  }
  return text;
}

std::vector<Record> read_all(const std::string& path, const RecordIndex& index) {
  RecordReader reader(path, index);
  std::vector<Record> records;
  while (std::optional<Record> record = reader.next()) records.push_back(std::move(*record));
  require(std::ssize(records) == index.num_records, "as many records as were counted");
  const int64_t middle = index.num_records / 2;
  reader.seek(middle);
  require(reader.next()->object == records[middle].object, "a record is found again");
  return records;
}

}  // namespace

bool accepts(std::string_view input) {
  const std::string name = take_choice(input, 2) == 0 ? "input.csv" : "input.tsv";
  RecordIndex index;
  std::vector<Record> records;
  const std::string path = input_directory().write(name, input);
  if (!is_accepted([&] { index = index_records(path); })) return false;
  require(RecordIndex::from_bytes(index.to_bytes()) == index, "an index reads back");
  if (!is_accepted([&] { records = read_all(path, index); })) return false;

  const std::string again = input_directory().write("again-" + name, render(index, records));
  const RecordIndex index_again = index_records(again);
  // a table of one column has no separator by which it could be known
  require(index.header.size() == 1 || index_again.format == index.format, "the separator is found again");
  if (index_again.format != index.format) return true;
  require(index_again.header == index.header, "the header reads back");
  const std::vector<Record> records_again = read_all(again, index_again);
  require(std::equal(records.begin(), records.end(), records_again.begin(), records_again.end(),
                     [](const Record& a, const Record& b) { return a.object == b.object; }),
          "records read back");
  return true;
}

}  // namespace plumb::fuzz
