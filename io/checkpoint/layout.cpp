#include "io/checkpoint/layout.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/peft_adapter.hpp"

namespace plumb {

std::vector<CheckpointUnit> describe_units(std::span<const TrainedShard> shards) {
  std::vector<CheckpointUnit> units;
  for (const TrainedShard& shard : shards) {
    const UnitLayout& layout = shard.layout->unit();
    CheckpointUnit& unit = units.emplace_back();
    unit.name = layout.name;
    unit.num_elements = layout.num_elements;
    unit.shard_elements = shard.layout->shard_elements();
    unit.has_8bit_moments = shard.moments->is_8bit();
    for (const Parameter& p : layout.parameters)
      unit.parameters.push_back(
          {p.part == AdapterPart::kWhole ? hf_parameter_name(p) : peft_tensor_name(p), p.offset, p.shape});
  }
  return units;
}

std::vector<MomentPiece> arrays_of(const CheckpointUnit& unit) {
  std::vector<MomentPiece> arrays = {{4, 1}};
  for (const MomentPiece& piece : moment_pieces(unit.has_8bit_moments)) arrays.push_back(piece);
  return arrays;
}

ElementRange owned_range(const CheckpointUnit& unit, int rank) {
  return {std::min(rank * unit.shard_elements, unit.num_elements),
          std::min((rank + 1) * unit.shard_elements, unit.num_elements)};
}

int64_t array_offset(std::span<const CheckpointUnit> units, int rank, size_t unit, size_t array) {
  int64_t offset = 0;
  for (size_t u = 0; u < std::min(unit + 1, units.size()); ++u) {
    const int64_t elements = owned_range(units[u], rank).size();
    const std::vector<MomentPiece> arrays = arrays_of(units[u]);
    const size_t num_before = u < unit ? arrays.size() : array;
    for (size_t a = 0; a < num_before; ++a) offset += arrays[a].num_bytes(elements);
  }
  return offset;
}

std::vector<CheckpointPiece> pieces_of(std::span<const CheckpointUnit> units, size_t unit, ElementRange range) {
  const CheckpointUnit& saved = units[unit];
  const std::vector<MomentPiece> arrays = arrays_of(saved);
  std::vector<CheckpointPiece> pieces;
  int64_t begin = range.begin;
  for (auto writer = static_cast<int>(begin / saved.shard_elements); begin < range.end; ++writer) {
    const ElementRange owned = owned_range(saved, writer);
    const int64_t end = std::min(owned.end, range.end);
    // all of these begin at multiples of kShardAlignment, which elements_per_value divides
    for (size_t array = 0; array < arrays.size(); ++array)
      pieces.push_back({writer, array,
                        array_offset(units, writer, unit, array) + arrays[array].num_bytes(begin - owned.begin),
                        arrays[array].num_bytes(begin - range.begin), arrays[array].num_bytes(end - begin)});
    begin = end;
  }
  return pieces;
}

std::string checkpoint_file_name(int rank, int num_ranks) {
  return fmt::format("rank-{:05}-of-{:05}.bin", rank, num_ranks);
}

}  // namespace plumb
