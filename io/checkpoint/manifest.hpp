// manifest.json of a checkpoint: its contents, their places, and a checksum of every block of every file. COMMIT beside
// it holds the SHA-256 of the manifest, so that a reader who trusts COMMIT can trust every byte.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/checkpoint/layout.hpp"

namespace plumb {

/// The size of a block, which one checksum covers; the last block of a file may be shorter.
inline constexpr int64_t kCheckpointBlockBytes = int64_t{4} << 20;

struct CheckpointFile {
  int64_t num_bytes = 0;
  std::vector<std::string> checksums;  // XXH3-128 of each block, 32 hexadecimal digits
};

struct CheckpointManifest {
  int64_t step = 0;            // that have been done
  nlohmann::ordered_json run;  // what the program needs to resume the run
  std::vector<CheckpointUnit> units;
  std::vector<CheckpointFile> files;  // by rank

  int num_ranks() const { return static_cast<int>(files.size()); }
};

std::string render_manifest(const CheckpointManifest& manifest);

/// Throws DataError, naming `path`, for anything that render_manifest() cannot have written.
CheckpointManifest parse_manifest(const std::string& text, const std::string& path);

}  // namespace plumb
