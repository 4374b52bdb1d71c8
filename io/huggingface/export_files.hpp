// Plans the files of a model directory before anything is written: which tensor goes into which file, and where. Any
// rank that has a tensor, or a part of it, can then write it to its place.
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
  std::vector<Place> places;  // one per tensor, in the order given
  int64_t tensor_bytes = 0;   // without headers
};

/// A file holds tensors of at most max_file_bytes in total, or one larger tensor. Within a file, tensors with larger
/// elements come first, so that each is aligned. file_stem: the beginning of the file names.
ExportFiles place_tensors(std::span<const SafetensorsSpec> tensors, int64_t max_file_bytes,
                          const std::string& file_stem = "model");

// All of these throw InputOutputError.

/// Rank 0 only: writes the headers and allocates the disk space of all files.
void create_export_files(std::span<const ExportFile> files, const std::string& temporary);

/// Any rank, after its last write: fsyncs the files. One rank per node is enough.
void sync_export_files(std::span<const ExportFile> files, const std::string& temporary);

/// Rank 0 only: writes model.safetensors.index.json if there are several files.
void write_export_index(std::span<const ExportFile> files, const std::string& temporary,
                        const std::map<std::string, size_t>& file_by_tensor, int64_t num_parameters,
                        int64_t tensor_bytes);

}  // namespace plumb
