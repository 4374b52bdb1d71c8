// Compressed text: bytes of the file as they are. Reading in pieces, reading again from an offset and reading the file
// twice over give the same text as reading it at once; JSON Lines inside are indexed like those of a plain file.
#include <algorithm>
#include <vector>

#include "io/records/data_file.hpp"
#include "io/records/record_file.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

namespace plumb::fuzz {

namespace {

constexpr size_t kMaxTextBytes = 8 << 20;  // of a bomb no more is needed

std::string read_text(DataFile& file, size_t piece_bytes) {
  std::string text;
  std::vector<char> piece(piece_bytes);
  while (text.size() < kMaxTextBytes) {
    const size_t num_read = file.read(static_cast<int64_t>(text.size()), piece);
    if (num_read == 0) return text;
    text.append(piece.data(), num_read);
  }
  return text;
}

RecordIndex index_of(const std::string& path, bool& is_index) {
  RecordIndex index;
  is_index = is_accepted([&] { index = index_records(path); });
  return index;
}

}  // namespace

bool accepts(std::string_view input) {
  const std::string path = input_directory().write("input", input);
  std::string text;
  if (!is_accepted([&] {
        DataFile file(path);
        text = read_text(file, 64 << 10);
        const auto middle = static_cast<int64_t>(text.size() / 2);
        std::vector<char> rest(64);
        const size_t num_read = file.read(middle, rest);
        require(text.compare(static_cast<size_t>(middle), num_read, rest.data(), num_read) == 0, "text is read again");
      }))
    return false;
  if (text.size() >= kMaxTextBytes) return true;
  DataFile again(path);
  require(again.compression() != Compression::kNone || text == input, "a plain file is its text");
  if (text.size() <= 4096) require(read_text(again, 7) == text, "text is the same in small pieces");

  bool is_index = false, is_plain_index = false;
  const RecordIndex index = index_of(path, is_index);
  if (find_compression(text) != Compression::kNone) return is_index;  // what is compressed twice is unpacked once
  const RecordIndex plain = index_of(input_directory().write("plain", text), is_plain_index);
  require(is_index == is_plain_index, "a compressed file holds rows where its text does");
  require(!is_index || (index.offsets == plain.offsets && index.lines == plain.lines &&
                        index.num_records == plain.num_records && index.text_bytes == plain.text_bytes),
          "rows are where they are in the text");
  return is_index;
}

}  // namespace plumb::fuzz
