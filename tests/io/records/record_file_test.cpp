#include "io/records/record_file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "io/records/data_files.hpp"
#include "lib/base/check.hpp"
#include "tests/support/compress.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;

std::vector<Record> read_all(const std::string& path) {
  RecordReader reader(path, index_records(path));
  std::vector<Record> records;
  while (std::optional<Record> record = reader.next()) records.push_back(std::move(*record));
  return records;
}

/// The message with which a file of this name and contents is refused; "" if it is accepted.
std::string refusal(const std::string& name, const std::string& contents) {
  const TemporaryDirectory directory;
  const std::string path = directory.write(name, contents);
  const std::string message = refusal_of<DataError>([&] { read_all(path); });
  if (message == kAccepted) return "";
  EXPECT_TRUE(message.starts_with(path)) << message;
  return message.substr(std::min(message.size(), path.size()));
}

void expect_refused(const std::string& name, const std::string& contents, const std::string& part) {
  const std::string message = refusal(name, contents);
  EXPECT_NE(message.find(part), std::string::npos) << name << " with " << contents.substr(0, 60) << ": got " << message;
}

TEST(RecordFile, CsvCellsAreStringsUnderTheirColumn) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("a.csv", "x,y\n1,two\n\"3\",\n");
  const std::vector<Record> records = read_all(file);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].object, json({{"x", "1"}, {"y", "two"}}));
  EXPECT_EQ(records[1].object, json({{"x", "3"}, {"y", ""}}));
}

TEST(RecordFile, CsvQuotedCellsHoldSeparatorsLineEndsAndQuotes) {
  const TemporaryDirectory directory;
  const std::string file =
      directory.write("a.csv", "\xEF\xBB\xBFx,y\r\n\"a,b\",\"one\r\ntwo \"\"2\"\"\"\r\n5\" pipe,end");
  const std::vector<Record> records = read_all(file);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].object, json({{"x", "a,b"}, {"y", "one\r\ntwo \"2\""}}));
  EXPECT_EQ(records[1].object, json({{"x", "5\" pipe"}, {"y", "end"}}));
  EXPECT_EQ(records[0].line, 2);
  EXPECT_EQ(records[1].line, 4);
  EXPECT_EQ(records[1].record, 1);
}

TEST(RecordFile, TsvKeepsCommas) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("a.TSV", "x\ty\na,b\tc\n");
  EXPECT_EQ(read_all(file).at(0).object, json({{"x", "a,b"}, {"y", "c"}}));
}

TEST(RecordFile, BlankLinesAreNotRecords) {
  const TemporaryDirectory directory;
  const std::string csv = directory.write("a.csv", "x\n\n1\r\n\r\n2\n\n");
  EXPECT_EQ(read_all(csv).size(), 2u);
  const std::string jsonl = directory.write("a.jsonl", "\n{\"a\":1}\n \t\r\n{\"a\":2}\n\n");
  const std::vector<Record> records = read_all(jsonl);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1].line, 4);
  EXPECT_EQ(records[1].record, 1);
}

TEST(RecordFile, JsonArrayElementsKnowTheirLine) {
  const TemporaryDirectory directory;
  const std::string file =
      directory.write("a.json", " [\n {\"a\": \"]}\\\\\\\"{\"},{\n\"b\": [[1], {\"c\": null}]}\n,\n{} ]\n");
  const std::vector<Record> records = read_all(file);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].object, json({{"a", "]}\\\"{"}}));
  EXPECT_EQ(records[1].object, json::parse(R"({"b": [[1], {"c": null}]})"));
  EXPECT_EQ(records[1].line, 2);
  EXPECT_EQ(records[2].line, 5);
}

TEST(RecordFile, ContentDecidesTheFormatOfUnknownExtensions) {
  const TemporaryDirectory directory;
  const std::string lines = directory.write("rows", "\xEF\xBB\xBF {\"a\":1}\n{\"a\":2}\n");
  EXPECT_EQ(find_file_format(lines).records, RecordFormat::kJsonLines);
  const std::string array = directory.write("rows.txt", "[{\"a\":1}]");
  EXPECT_EQ(find_file_format(array).records, RecordFormat::kJsonArray);
  expect_refused("rows.bin", "a,b\n1,2\n", "expected a name in .csv");
  expect_refused("rows.xz",
                 "\xFD"
                 "7zXZ",
                 "got xz; unpack it first");
}

TEST(RecordFile, JsonIsAnArrayOrLinesWhateverTheName) {
  const TemporaryDirectory directory;
  const std::string two = R"({"a":1}
{"a":2}
)";
  for (const char* name : {"a.json", "a.jsonl", "a.ndjson", "a"}) {
    EXPECT_EQ(read_all(directory.write(name, two)).size(), 2u) << name;
    EXPECT_EQ(read_all(directory.write(name, "\xEF\xBB\xBF\n[ {\"a\":1},\n{\"a\":2}]")).size(), 2u) << name;
  }
  EXPECT_EQ(read_all(directory.write("a.json", R"({"a": {"b": "}"}})")).size(), 1u);
  expect_refused("a.json", "{\n \"data\": [{}]\n}", "got an object over several lines; if its rows are under a key");
  expect_refused("a.json", two + "[1]\n", ":3: row 2: expected a JSON object {...}, got array");
}

TEST(RecordFile, TheLineOfColumnNamesShowsTheSeparator) {
  const TemporaryDirectory directory;
  const json expected = {{"x;", "1,5"}, {"y", "a\tb"}};
  for (const char* name : {"a.csv", "a.tsv"}) {
    EXPECT_EQ(read_all(directory.write(name, "\"x;\";y\n1,5;a\tb\n")).at(0).object, expected) << name;
    EXPECT_EQ(read_all(directory.write(name, "\n\"x;\"|y\n1,5|a\tb\n")).at(0).object, expected) << name;
    EXPECT_EQ(read_all(directory.write(name, "\xEF\xBB\xBF\"x;\"\ty\n1,5\t\"a\tb\"\n")).at(0).object, expected) << name;
    EXPECT_EQ(read_all(directory.write(name, "\"x;\",y\n\"1,5\",a\tb\n")).at(0).object, expected) << name;
    EXPECT_EQ(read_all(directory.write(name, "text\na;b\n")).at(0).object, json({{"text", "a;b"}})) << name;
  }
  EXPECT_EQ(describe(find_file_format(directory.write("a.csv", "x;y\n"))), "CSV separated by ;");
  EXPECT_EQ(describe(find_file_format(directory.write("a.csv", "x\ty,z\n"))), "CSV");  // its own, where as many
  EXPECT_EQ(describe(find_file_format(directory.write("a.tsv", "x\ty,z\n"))), "TSV");
  expect_refused("a.csv", "x;y\n1;2\n1;2;3\n", "expected 2 fields as in the header, got 3, separated by semicolon");
}

TEST(CompressedFile, PartsFollowEachOtherAndDamageIsRefused) {
  const std::string first = "{\"a\":1}\n{\"a\"", second = ":2}\n";
  for (const auto& [name, compress] : {std::pair{"a.jsonl.gz", &gzip}, std::pair{"a.jsonl.zst", &zstd}}) {
    const std::string parts = compress(first) + compress("") + compress(second);
    EXPECT_EQ(refusal(name, parts), "");
    EXPECT_EQ(refusal("a.jsonl", parts), "");  // the contents decide
    expect_refused(name, first + second, "data, as the name says, got other bytes");
    for (size_t size = 5; size < parts.size(); ++size) {
      const std::string message = refusal(name, parts.substr(0, size));
      EXPECT_TRUE(message.find("end of the file") != std::string::npos || message.find("row 1") != std::string::npos)
          << name << " of " << size << " bytes: " << message;
    }
    std::string damaged = compress(first + second);
    damaged[damaged.size() - 6] ^= 1;  // in gzip the checksum, in zstd the text
    EXPECT_NE(refusal(name, damaged), "") << name;
    expect_refused(name, parts + "more", "expected ");
  }
  expect_refused("a.jsonl.zst", gzip(first + second), "expected zstd data, as the name says, got gzip");
  EXPECT_EQ(refusal("a.jsonl.gz", gzip(first + second) + std::string(5000, '\0')), "");
  expect_refused("a.jsonl.gz", gzip(""), "expected rows, got an empty file");
}

/// Records of many sizes, some larger than the read buffer, with blank lines and quoted line ends between them.
struct ManyRecords {
  static constexpr int kNumRecords = 5000;
  static std::string text(int i) {
    if (i % 1777 == 5) return std::string(3'000'000, static_cast<char>('a' + i % 26));
    return "row " + std::to_string(i) + (i % 3 == 0 ? ", \"quoted\"\nsecond line" : "") + std::string(i % 97, 'x');
  }
  static std::string csv_cell(int i) {
    std::string cell = "\"";
    for (const char c : text(i)) cell += c == '"' ? std::string("\"\"") : std::string(1, c);
    return cell + "\"";
  }
  static std::string contents(RecordFormat format) {
    const bool is_table = format == RecordFormat::kTable;
    std::string out = is_table ? "id,text\n" : format == RecordFormat::kJsonArray ? "[" : "";
    for (int i = 0; i < kNumRecords; ++i) {
      const std::string object = json({{"id", std::to_string(i)}, {"text", text(i)}}).dump();
      if (is_table) out += std::to_string(i) + "," + csv_cell(i) + (i % 5 == 0 ? "\r\n" : "\n");
      if (format == RecordFormat::kJsonLines) out += object + (i % 7 == 0 ? "\n\n" : "\n");
      if (format == RecordFormat::kJsonArray) out += (i == 0 ? "\n" : ",\n ") + object;
    }
    return out + (format == RecordFormat::kJsonArray ? "]" : "");
  }
};

class RecordReaderTest : public testing::TestWithParam<const char*> {};

TEST_P(RecordReaderTest, ReadsTheSameFromAnyStart) {
  const std::string name = GetParam();
  const RecordFormat format = name.starts_with("a.csv")     ? RecordFormat::kTable
                              : name.starts_with("a.jsonl") ? RecordFormat::kJsonLines
                                                            : RecordFormat::kJsonArray;
  const std::string contents = ManyRecords::contents(format);
  const TemporaryDirectory directory;
  const std::string file = directory.write(name, name.ends_with(".gz")    ? gzip(contents)
                                                 : name.ends_with(".zst") ? zstd(contents)
                                                                          : contents);
  const RecordIndex index = index_records(file);
  ASSERT_EQ(index.num_records, ManyRecords::kNumRecords);
  EXPECT_EQ(index.offsets.size(), 5u);

  RecordReader reader(file, index);
  std::vector<int64_t> lines;
  for (int i = 0; i < ManyRecords::kNumRecords; ++i) {
    const std::optional<Record> record = reader.next();
    ASSERT_TRUE(record);
    ASSERT_EQ(record->record, i);
    ASSERT_EQ(record->object.at("id"), std::to_string(i));
    ASSERT_EQ(record->object.at("text"), ManyRecords::text(i));
    lines.push_back(record->line);
  }
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.next());
  for (const int64_t start : {4999, 0, 1, 1023, 1024, 1025, 1782, 4096, 2048}) {
    reader.seek(start);
    for (int64_t i = start; i < std::min<int64_t>(start + 3, ManyRecords::kNumRecords); ++i) {
      const std::optional<Record> record = reader.next();
      ASSERT_TRUE(record);
      EXPECT_EQ(record->record, i);
      EXPECT_EQ(record->line, lines[i]);
      EXPECT_EQ(record->object.at("id"), std::to_string(i));
    }
  }
  reader.seek(ManyRecords::kNumRecords);
  EXPECT_FALSE(reader.next());
  EXPECT_THROW(reader.seek(ManyRecords::kNumRecords + 1), std::logic_error);
}

INSTANTIATE_TEST_SUITE_P(Formats, RecordReaderTest,
                         testing::Values("a.csv", "a.jsonl", "a.json", "a.csv.gz", "a.jsonl.zst"),
                         [](const auto& param_info) {
                           std::string test_name = param_info.param + 2;
                           std::replace(test_name.begin(), test_name.end(), '.', '_');
                           return test_name;
                         });

TEST(RecordReader, NamesFileLineAndRow) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("a.csv", "x\n\"1\n2\"\n3\n");
  RecordReader reader(file, index_records(file));
  reader.seek(1);
  EXPECT_EQ(reader.where(reader.next().value()), file + ":4: row 1");
}

TEST(RecordReader, RefusesAFileThatChanged) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("a.jsonl", "{}\n{}\n");
  const RecordIndex index = index_records(file);
  std::ofstream(file, std::ios::app) << "{}\n";
  EXPECT_THROW(RecordReader(file, index), DataError);
}

TEST(RecordFile, MalformedCsvIsRefusedWithItsPlace) {
  expect_refused("a.csv", "x,y\n1,2\n1\n", ":3: row 1: expected 2 fields as in the header, got 1");
  expect_refused("a.csv", "x,y\n1,2,3\n", ":2: row 0: expected 2 fields as in the header, got 3");
  expect_refused("a.csv", "x,y\n1,2\n3,\"4\n5\n", ":3: row 1: expected a closing quote");
  expect_refused("a.csv", "x,y\n\"a\nb\",\"4\n5\n", ":3: row 0: expected a closing quote");
  expect_refused("a.csv", "x,y\n1,\"2\"3\n", ":2: row 0: field 2: expected a separator");
  expect_refused("a.csv", "x,y\n1,2\r3,4\n", ":2: row 0: field 2: expected lines that end in LF or CRLF");
  expect_refused("a.csv", "x,y\r1,2\r", ":1: header: field 2: expected lines that end in LF");
  expect_refused("a.csv", "x,,z\n1,2,3\n", ":1: header: expected a name for every column, got none for column 2");
  expect_refused("a.csv", "x,y,x\n1,2,3\n", ":1: header: expected column names that differ, got \"x\" twice");
}

TEST(RecordFile, MalformedJsonIsRefusedWithItsPlace) {
  expect_refused("a.jsonl", "{}\n{\"a\": 1,}\n", ":2: row 1: column 9: expected JSON");
  expect_refused("a.jsonl", "{}\n[1]\n", ":2: row 1: expected a JSON object {...}, got array");
  expect_refused("a.jsonl", "{} {}\n", ":1: row 0: column 4: expected JSON");
  expect_refused("a.jsonl", "{\"a\": \"\\ud800\"}\n", ":1: row 0: column ");
  expect_refused("a.jsonl", "{\"a\": 1e999}\n", ":1: row 0: column ");
  expect_refused("a.jsonl", "{\"a\": {\"b\": 1, \"b\": 2}}\n", ":1: row 0: expected keys that differ, got \"b\" twice");
  expect_refused("a.json", "1", ":1: row 0: expected a JSON array of objects");
  expect_refused("a.json", "[{},\n 3]", ":2: row 1: expected an object {...}, got '3'");
  expect_refused("a.json", "[{},]", "row 1: expected an object {...}, got ']'");
  expect_refused("a.json", "[{} {}]", "row 1: expected a comma");
  expect_refused("a.json", "[{}]\n]", ":2: row 1: expected nothing after the array, got ']'");
  expect_refused("a.json", "[{}, {\"a\": [1}", "row 1: expected the end of an object, got the end of the file");
  expect_refused("a.json", "[{\"a\":\n 1\n x}]", ":3: row 0: column 2: expected JSON");
  expect_refused("a.json", "[{}", "row 1: expected a comma or the end of the array after an element, got the end of");
}

TEST(RecordFile, HostileBytesAreRefused) {
  const std::string deep = "{\"a\":" + std::string(63, '[') + std::string(63, ']') + "}\n";
  EXPECT_EQ(refusal("a.jsonl", deep), "");
  const std::string deeper = "{\"a\":" + std::string(64, '[') + std::string(64, ']') + "}\n";
  expect_refused("a.jsonl", deeper, "expected at most 64 levels of nesting");
  expect_refused("a.jsonl", "{\"a\":" + std::string(1'000'000, '['), "expected at most 64 levels of nesting");
  expect_refused("a.csv", std::string("x\na\0b\n", 6), ":2: row 0: byte 1: expected text, got a NUL byte");
  expect_refused("a.csv", "x\nok\nb\xFF\n", ":3: row 1");
  expect_refused("a.jsonl", "{\"a\": \"\xC3(\"}\n", ":1: row 0");
  expect_refused("a.csv", "\xFF\xFEx", "UTF-16");
}

TEST(RecordFile, OverlongRecordsAreRefusedEarly) {
  const std::string filler(static_cast<size_t>(kMaxRecordBytes) + 10, 'a');
  expect_refused("a.jsonl", "{}\n{\"a\": \"" + filler + "\"}\n",
                 ":2: row 1: expected a record of at most 16777216 bytes");
  expect_refused("a.csv", "x\n1\n\"" + filler,
                 ":3: row 1: expected a record of at most 16777216 bytes, got a longer one; a quote opened on line 3");
  expect_refused("a.json", "[{\"a\": \"" + filler + "\"}]", ":1: row 0: expected a record of at most 16777216 bytes");
}

TEST(RecordFile, FilesWithoutRowsAreRefused) {
  expect_refused("a.csv", "", ": expected rows, got an empty file");
  expect_refused("a.jsonl", "", ": expected rows, got an empty file");
  expect_refused("a.csv", "x,y\n", ": expected rows, got none below the header");
  expect_refused("a.csv", "\n\n", ": expected a line of column names");
  expect_refused("a.jsonl", "\n \n", ": expected rows, got none");
  expect_refused("a.json", "[ ]", ": expected rows, got none");
}

TEST(RecordFile, UnreadablePathsAreInputOutputErrors) {
  EXPECT_THROW(index_records("/nonexistent/a.csv"), InputOutputError);
  EXPECT_THROW(index_records(std::filesystem::temp_directory_path().string()), InputOutputError);
  EXPECT_THROW(index_records("/dev/null"), InputOutputError);
  try {
    index_records("/nonexistent/a.csv");
  } catch (const InputOutputError& error) {
    EXPECT_STREQ(error.what(), "/nonexistent/a.csv: cannot open: No such file or directory");
  }
}

TEST(RecordFile, AGitLfsPointerIsNamed) {
  for (const char* name : {"a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz"})
    expect_refused(name, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 5242880\n",
                   ": expected the file itself, got a Git LFS pointer to it; fetch it: git -C ");
}

TEST(DataFiles, PatternsMatchInOrderAndOthersAreRefused) {
  const TemporaryDirectory directory;
  for (const char* name : {"b-10.jsonl", "b-2.jsonl", "a.csv", "b[1].jsonl"}) directory.write(name, "{}\n");
  const auto at = [&](const std::string& name) { return directory.path() + "/" + name; };
  using Paths = std::vector<std::string>;
  EXPECT_EQ(find_data_files(at("b-*.jsonl")), (Paths{at("b-10.jsonl"), at("b-2.jsonl")}));
  EXPECT_EQ(find_data_files(at("[ab]*")).size(), 4u);
  const DataFiles files = find_data_files({at("b-*.jsonl"), at("a.csv")});
  EXPECT_EQ(files.paths, (Paths{at("b-10.jsonl"), at("b-2.jsonl"), at("a.csv")}));
  EXPECT_EQ(files.files_per_item, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(find_data_files(at("b[1].jsonl")), Paths{at("b[1].jsonl")});  // a file of this name is that file
  EXPECT_EQ(find_data_files(at("none.jsonl")), Paths{at("none.jsonl")});  // opening it is the error
  EXPECT_NE(refusal_of<InputOutputError>([&] { find_data_files(at("c*")); }).find("c*: expected files that match"),
            std::string::npos);
  EXPECT_NE(refusal_of<InputOutputError>([&] { find_data_files(at("none/*")); }).find("expected files that match"),
            std::string::npos);
  EXPECT_NE(refusal_of<InputOutputError>([&] { find_data_files(directory.path()); }).find("got a directory"),
            std::string::npos);
  std::filesystem::create_symlink(at("a.csv"), at("link.csv"));
  const auto repeated = find_repeated_files({at("a.csv"), at("b-2.jsonl"), at("./a.csv"), at("link.csv")});
  ASSERT_EQ(repeated.size(), 2u);
  EXPECT_EQ(repeated[1], std::pair(at("link.csv"), at("a.csv")));
}

// tests/io/records/parquet_test.cpp has the tests with Arrow
TEST(RecordFile, ParquetIsReadOrSaysWhatToInstall) {
  const std::string path = PLUMB_SOURCE_DIR "/tests/fuzz/seeds/parquet/ok_pairs";
  const std::string message = refusal_of<UsageError>([&] { index_records(path); });
  const bool names_cure = message.find("./dev setup --parquet") != std::string::npos;
  EXPECT_TRUE(message == kAccepted || (names_cure && message.starts_with(path))) << message;
}

TEST(RecordIndex, RoundTripsThroughBytes) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("a.csv", ManyRecords::contents(RecordFormat::kTable));
  const RecordIndex index = index_records(file);
  EXPECT_EQ(RecordIndex::from_bytes(index.to_bytes()), index);
  EXPECT_EQ(index.header, (std::vector<std::string>{"id", "text"}));
}

TEST(RecordIndex, RefusesForeignBytes) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("a.csv", "x,y\n1,2\n");
  const std::string bytes = index_records(file).to_bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(RecordIndex::from_bytes(bytes.substr(0, size)), DataError) << size;
  }
  EXPECT_THROW(RecordIndex::from_bytes(bytes + "x"), DataError);
  // the largest number in any field must be checked
  for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    std::string hostile = bytes;
    hostile.replace(at, 8, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F");
    try {
      RecordIndex::from_bytes(hostile);
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace plumb
