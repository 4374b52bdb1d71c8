// manifest.json of a checkpoint: accepted input round-trips, and its files have the sizes that its units need.
#include <algorithm>

#include "io/checkpoint/manifest.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

bool accepts(std::string_view input) {
  CheckpointManifest manifest;
  if (!is_accepted([&] { manifest = parse_manifest(std::string(input), "manifest.json"); })) return false;
  require(manifest.num_ranks() >= 1 && manifest.step >= 0, "there is a rank and a step");
  for (const CheckpointUnit& unit : manifest.units) {
    int64_t end = 0;
    for (int rank = 0; rank < manifest.num_ranks(); ++rank) {
      const ElementRange owned = owned_range(unit, rank);
      require(owned.begin == end && owned.end >= owned.begin, "ranks follow each other");
      end = owned.end;
    }
    require(end == unit.num_elements, "ranks cover the unit");
  }
  for (int rank = 0; rank < manifest.num_ranks(); ++rank)
    require(manifest.files[rank].num_bytes == checkpoint_file_bytes(manifest.units, rank), "files hold the units");
  const std::string rendered = render_manifest(manifest);
  require(render_manifest(parse_manifest(rendered, "again")) == rendered, "a manifest reads back");
  return true;
}

}  // namespace plumb::fuzz
