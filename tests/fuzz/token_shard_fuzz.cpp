// A token shard, read completely. The first byte chooses what the input is: a file; changes to the bytes of an intact
// shard; or the arrays themselves. Changes leave HDF5's checksums as they were: the library itself is not hardened
// against forged files (benchmarks/results/fuzzing.md), so shards are read from trusted sources only.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <vector>

#include "io/dataset/token_shard.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

// Suppresses leaks of the library itself on damaged metadata.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

namespace plumb::fuzz {

namespace {

constexpr int64_t kVocabSize = 97;

std::string make_intact(const std::string& kind) {
  const std::string path = input_directory().write("intact.h5", "");
  std::filesystem::remove(path);
  const bool has_pairs = kind == kPairsKind;
  TokenShardWriter writer(path, {kind, has_pairs});
  const std::vector<int32_t> chosen = {1, 2, 3, 4}, rejected = {1, 2, 9};
  const std::vector<uint8_t> mask = {0, 0, 1, 1};
  for (int64_t row = 0; row < 3; ++row)
    has_pairs ? writer.append_pair(chosen, rejected, 2, 0.5, row) : writer.append(chosen, mask, row);
  writer.finish();
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Three bytes per change: a 16-bit offset and the new byte.
std::string damaged(std::string bytes, std::string_view changes) {
  for (; changes.size() >= 3; changes.remove_prefix(3)) {
    const size_t low = static_cast<unsigned char>(changes[0]), high = static_cast<unsigned char>(changes[1]);
    bytes[(low + 256 * high) % bytes.size()] = changes[2];
  }
  return bytes;
}

template <class T>
void write_array(Hdf5File& file, const std::string& name, std::string_view& input) {
  std::vector<T> values(take_choice(input, 32));
  for (T& value : values) {
    //
    const size_t byte = take_choice(input, 256);
    const uint64_t power = uint64_t{1} << (byte % 64);
    value = static_cast<T>(static_cast<int64_t>(byte < 128 ? byte : byte < 192 ? ~power : power));
  }
  Hdf5Dataset dataset = file.create_dataset<T>(name, {16, -1});
  dataset.append(std::span<const T>(values));
  dataset.close();
}

std::string write_arrays(std::string_view input) {
  const std::string path = input_directory().write("input.h5", "");
  std::filesystem::remove(path);
  Hdf5File file = Hdf5File::create(path);
  file.set_attribute("format_version", static_cast<int64_t>(take_choice(input, 3)));
  const bool has_pairs = take_choice(input, 2) == 1;
  file.set_attribute("kind", has_pairs ? kPairsKind : kSftKind);
  const auto has_margins = static_cast<int64_t>(take_choice(input, 3));
  if (has_pairs) file.set_attribute("has_margins", has_margins);
  write_array<int32_t>(file, "tokens", input);
  write_array<uint8_t>(file, "loss_mask", input);
  write_array<int64_t>(file, "offsets", input);
  write_array<int64_t>(file, "row_id", input);
  if (has_pairs) write_array<int64_t>(file, "prompt_length", input);
  if (has_margins == 1) write_array<double>(file, "margin", input);
  file.close();
  return path;
}

std::string write_input(std::string_view input) {
  static const std::string sft = make_intact(std::string(kSftKind)), pairs = make_intact(std::string(kPairsKind));
  switch (take_choice(input, 4)) {
    case 0:
      return input_directory().write("input.h5", input);
    case 1:
      return input_directory().write("input.h5", damaged(sft, input));
    case 2:
      return input_directory().write("input.h5", damaged(pairs, input));
    default:
      return write_arrays(input);
  }
}

}  // namespace

bool accepts(std::string_view input) {
  const std::string path = write_input(input);
  return is_accepted([&] {
    const TokenShardReader shard(path, kVocabSize);
    require(shard.num_tokens() * 4 <= static_cast<int64_t>(std::filesystem::file_size(path)), "a shard has its tokens");
    shard.check_offsets();
    const TokenRows rows = shard.read(0, shard.num_rows());
    require(rows.num_tokens() == shard.num_tokens() && rows.num_rows() == shard.num_rows(), "all rows are read");
    require(std::all_of(rows.tokens.begin(), rows.tokens.end(), [](int32_t id) { return id >= 0 && id < kVocabSize; }),
            "tokens are of the vocabulary");
  });
}

}  // namespace plumb::fuzz
