// The files of a model directory that is written: which tensor goes into which file and where, known before any is
// written, so that whoever holds a tensor, or a part of it, writes it to its place.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/huggingface/safetensors_writer.hpp"

namespace plumb {

struct ExportFile {
  std::string name;    // "model-00001-of-00003.safetensors"
  std::string header;  // all bytes before the first tensor
  int64_t size_bytes = 0;
};

inline constexpr int64_t kDefaultExportFileBytes = 5'000'000'000;

struct ExportFiles {
  struct Place {
    size_t file = 0;
    int64_t offset_bytes = 0;  // within the file
  };
  std::vector<ExportFile> files;
  std::vector<Place> places;  // of the tensors, in the order in which they were given
  int64_t tensor_bytes = 0;   // without headers
};

/// A file holds tensors of at most max_file_bytes, or one tensor that is larger. Within a file those of larger elements
/// come first, so that each is aligned. file_stem: what the names of the files begin with.
ExportFiles place_tensors(std::span<const SafetensorsSpec> tensors, int64_t max_file_bytes,
                          const std::string& file_stem = "model");

// All throw InputOutputError.

/// Rank 0 only: headers written, disk space of all files taken.
void create_export_files(std::span<const ExportFile> files, const std::string& temporary);

/// Any rank, after its last write: what it wrote is on the device. Enough on one rank per node.
void sync_export_files(std::span<const ExportFile> files, const std::string& temporary);

/// Rank 0 only: model.safetensors.index.json, where there are several files.
void write_export_index(std::span<const ExportFile> files, const std::string& temporary,
                        const std::map<std::string, size_t>& file_by_tensor, int64_t num_parameters,
                        int64_t tensor_bytes);

/// Rank 0 only: what goes along unchanged, where the source has it: the tokenizer's files and generation_config.json.
void copy_unchanged_files(const std::string& source_model_directory, const std::string& temporary);

}  // namespace plumb
