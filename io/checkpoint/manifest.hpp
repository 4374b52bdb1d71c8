// manifest.json of a checkpoint: what it holds, where, and a checksum of every block of every file. COMMIT beside it
// holds the SHA-256 of the manifest, so that whoever trusts COMMIT can trust every byte.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/checkpoint/layout.hpp"

namespace plumb {

/// Of what a checksum covers; the last block of a file may be shorter.
inline constexpr int64_t kCheckpointBlockBytes = int64_t{4} << 20;

struct CheckpointFile {
  int64_t num_bytes = 0;
  std::vector<std::string> checksums;  // XXH3-128 of each block, 32 hexadecimal digits
};

struct CheckpointManifest {
  int64_t step = 0;            // that have been done
  nlohmann::ordered_json run;  // what the program wants to know of the run again
  std::vector<CheckpointUnit> units;
  std::vector<CheckpointFile> files;  // by rank

  int num_ranks() const { return static_cast<int>(files.size()); }
};

std::string render_manifest(const CheckpointManifest& manifest);

/// Throws DataError, naming `path`, for anything that render_manifest() cannot have written.
CheckpointManifest parse_manifest(const std::string& text, const std::string& path);

}  // namespace plumb
