// Reading a checkpoint on another number of ranks: for any units and any two numbers of ranks, every element of every
// array is read exactly once, from where it was written. The input is interpreted as numbers: writing ranks, reading
// ranks, then three bytes per unit.
#include <algorithm>
#include <vector>

#include "io/checkpoint/layout.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

namespace {

constexpr size_t kMaxRanks = 24, kMaxUnits = 4;

CheckpointUnit make_unit(int64_t num_elements, bool has_8bit_moments, int num_ranks) {
  CheckpointUnit unit;
  unit.num_elements = num_elements;
  unit.shard_elements = ShardLayout({"unit", {}, num_elements}, num_ranks).shard_elements();
  unit.has_8bit_moments = has_8bit_moments;
  return unit;
}

/// Checks that the reads of one rank cover its range of elements of a unit. Returns the bytes.
int64_t check_part(std::span<const CheckpointUnit> units, size_t unit, ElementRange mine) {
  const CheckpointUnit& saved = units[unit];
  const std::vector<MomentPiece> arrays = arrays_of(saved);
  std::vector<int64_t> num_filled(arrays.size(), 0);
  int64_t num_bytes = 0;
  for (const CheckpointPiece& piece : pieces_of(units, unit, mine)) {
    const MomentPiece& array = arrays[piece.array];
    require(piece.into_offset == num_filled[piece.array] && piece.num_bytes > 0, "pieces follow each other");
    num_filled[piece.array] += piece.num_bytes;
    num_bytes += piece.num_bytes;
    const ElementRange owned = owned_range(saved, piece.writer);
    const int64_t begin = array_offset(units, piece.writer, unit, piece.array);
    require(piece.file_offset >= begin && piece.file_offset + piece.num_bytes <= begin + array.num_bytes(owned.size()),
            "a piece is in its array");
    const int64_t written = owned.begin / array.elements_per_value + (piece.file_offset - begin) / array.value_bytes;
    const int64_t read = mine.begin / array.elements_per_value + piece.into_offset / array.value_bytes;
    require(written == read, "an element is read from where it was written");
  }
  for (size_t array = 0; array < arrays.size(); ++array)
    require(num_filled[array] == arrays[array].num_bytes(mine.size()), "all elements are read");
  return num_bytes;
}

}  // namespace

bool accepts(std::string_view input) {
  const auto num_writers = static_cast<int>(1 + take_choice(input, kMaxRanks));
  const auto num_readers = static_cast<int>(1 + take_choice(input, kMaxRanks));
  std::vector<CheckpointUnit> units;
  while (!input.empty() && units.size() < kMaxUnits) {
    const size_t low = take_choice(input, 256), high = take_choice(input, 256), more = take_choice(input, 256);
    const auto num_elements = static_cast<int64_t>(1 + low + 256 * high + 65536 * (more / 2 % 4));
    units.push_back(make_unit(num_elements, more % 2 == 1, num_writers));
  }
  int64_t num_written = 0, num_read = 0;
  for (int rank = 0; rank < num_writers; ++rank) num_written += checkpoint_file_bytes(units, rank);
  for (size_t unit = 0; unit < units.size(); ++unit) {
    const CheckpointUnit reading = make_unit(units[unit].num_elements, false, num_readers);
    int64_t end = 0;
    for (int rank = 0; rank < num_readers; ++rank) {
      const ElementRange mine = owned_range(reading, rank);
      require(mine.begin == end, "ranks follow each other");
      end = mine.end;
      num_read += check_part(units, unit, mine);
    }
    require(end == units[unit].num_elements, "ranks cover the unit");
  }
  require(num_read == num_written, "what was written is read once");
  return !units.empty();
}

}  // namespace plumb::fuzz
