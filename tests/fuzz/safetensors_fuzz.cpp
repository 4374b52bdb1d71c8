// The header of a safetensors file. The first byte chooses between complete files and a header alone, which gets a
// correct length; the next two bytes are then the size of the data.
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "io/huggingface/safetensors.hpp"
#include "io/huggingface/safetensors_writer.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

namespace plumb::fuzz {

namespace {

void check_header(const SafetensorsHeader& header, int64_t buffer_bytes) {
  int64_t end = 0;
  std::set<std::string> names;
  std::vector<SafetensorsSpec> specs;
  for (const SafetensorsEntry& entry : header.entries) {
    require(names.insert(entry.name).second, "names differ");
    require(entry.offset_bytes == end, "tensors follow each other");
    end += entry.num_bytes();
    specs.push_back({entry.name, entry.dtype, entry.shape});
    require(specs.back().num_bytes() == entry.num_bytes(), "a shape has the bytes of its tensor");
  }
  require(end == buffer_bytes, "tensors cover the buffer");

  const std::string rendered = render_safetensors_header(specs, header.metadata);
  const SafetensorsHeader again = parse_safetensors_header(std::string_view(rendered).substr(8), buffer_bytes, "again");
  require(again.metadata == header.metadata && again.entries.size() == specs.size(), "what is written reads back");
  for (const SafetensorsEntry& entry : again.entries) require(names.contains(entry.name), "names read back");
}

void read_file(std::string_view bytes) {
  const SafetensorsFile file(input_directory().write("input.safetensors", bytes));
  for (const SafetensorsEntry& entry : file.entries()) {
    std::vector<std::byte> contents(entry.num_bytes());
    require(contents.size() <= bytes.size(), "a tensor is no larger than its file");
    file.read(entry, 0, std::span(contents));
  }
}

}  // namespace

bool accepts(std::string_view input) {
  if (take_choice(input, 2) == 0) return is_accepted([&] { read_file(input); });
  const auto low = static_cast<int64_t>(take_choice(input, 256)), high = static_cast<int64_t>(take_choice(input, 256));
  const int64_t buffer_bytes = low + 256 * high;
  SafetensorsHeader header;
  if (!is_accepted([&] { header = parse_safetensors_header(input, buffer_bytes, "input"); })) return false;
  check_header(header, buffer_bytes);
  return true;
}

}  // namespace plumb::fuzz
