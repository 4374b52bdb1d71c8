// Where the elements of trained units are in the files of a checkpoint. Each rank writes one file: for every unit the
// elements that it owns, array after array: the master parameters, then those of both moments. Where an element is
// follows from the number of ranks that wrote, so any number of ranks finds what it needs; padding is not stored.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/optim/adamw_state.hpp"
#include "partition/trained_shard.hpp"

namespace plumb {

struct CheckpointParameter {
  std::string name;
  int64_t offset;  // first element within the unit
  std::vector<int64_t> shape;
  bool operator==(const CheckpointParameter&) const = default;
};

struct CheckpointUnit {
  std::string name;
  int64_t num_elements = 0;
  int64_t shard_elements = 0;  // of each rank that wrote; the last ones may own fewer, or none
  bool has_8bit_moments = false;
  std::vector<CheckpointParameter> parameters;
  bool operator==(const CheckpointUnit&) const = default;
};

std::vector<CheckpointUnit> describe_units(std::span<const TrainedShard> shards);

/// Parameters, then moments.
std::vector<MomentPiece> arrays_of(const CheckpointUnit& unit);

/// The elements of a unit that a rank wrote.
ElementRange owned_range(const CheckpointUnit& unit, int rank);

/// In the file of a rank. For array 0 of the unit after the last one: the size of the file.
int64_t array_offset(std::span<const CheckpointUnit> units, int rank, size_t unit, size_t array);
inline int64_t checkpoint_file_bytes(std::span<const CheckpointUnit> units, int rank) {
  return array_offset(units, rank, units.size(), 0);
}

/// Bytes of one array of a unit in the file of one rank, and where they go.
struct CheckpointPiece {
  int writer = 0;
  size_t array = 0;
  int64_t file_offset = 0;
  int64_t into_offset = 0;  // in an array that begins with the range's first element
  int64_t num_bytes = 0;
};

/// Where the elements of a range are, every one in every array once. The range begins at a multiple of kShardAlignment
/// and ends at one or with the unit.
std::vector<CheckpointPiece> pieces_of(std::span<const CheckpointUnit> units, size_t unit, ElementRange range);

/// "rank-00003-of-00008.bin"
std::string checkpoint_file_name(int rank, int num_ranks);

}  // namespace plumb
