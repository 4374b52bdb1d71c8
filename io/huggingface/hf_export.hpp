// Writes a model as a Hugging Face directory from all ranks at once: the place of every byte is known before any is
// written, so each rank writes its own ranges and no rank ever holds the whole model.
//
//   rank 0:   AtomicDirectory exported(directory); create_export_files(plan, temporary)
//   each:     write_unit_range(plan, temporary, unit, begin, end, values)...; sync_export_files(plan, temporary)
//   rank 0:   finish_export(plan, temporary, config, text); exported.publish()
//
// where temporary = exported.temporary_path(). The caller puts barriers between these lines. All functions throw
// InputOutputError.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/huggingface/export_files.hpp"
#include "io/huggingface/exported_text.hpp"
#include "lib/base/dtype.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

struct ExportTensor {
  std::string name;
  int64_t unit_offset = 0;  // first element, within the unit
  int64_t num_elements = 0;
  size_t file = 0;
  int64_t offset_bytes = 0;  // within the file
};

struct ExportPlan {
  Dtype dtype = Dtype::kF32;
  std::vector<ExportFile> files;
  std::vector<std::vector<ExportTensor>> units;  // tensors of each unit, by unit_offset
  int64_t num_parameters = 0;
  int64_t tensor_bytes = 0;  // without headers
};

/// The names of tensors and files; by default those of a model.
struct ExportNames {
  std::function<std::string(const Parameter&)> tensor;
  std::string file_stem;
};
ExportNames model_export_names();

/// A file holds tensors of at most max_file_bytes in total, or one larger tensor. dtype: kF32 or kBf16. The plan is the
/// same on every rank.
ExportPlan plan_export(const std::vector<UnitLayout>& units, Dtype dtype,
                       int64_t max_file_bytes = kDefaultExportFileBytes,
                       const ExportNames& names = model_export_names());

/// Rank 0 only: writes the headers and allocates the disk space of all files.
void create_export_files(const ExportPlan& plan, const std::string& temporary);

/// Any rank: writes elements [begin, end) of a unit's flat buffer, rounded to nearest even. Alignment gaps and elements
/// past the unit are skipped. Ranges of different ranks must not overlap.
void write_unit_range(const ExportPlan& plan, const std::string& temporary, size_t unit_index, int64_t begin,
                      int64_t end, std::span<const float> values);

/// Any rank, after its last write: fsyncs the files. One rank per node is enough.
void sync_export_files(const ExportPlan& plan, const std::string& temporary);

/// Rank 0 only: writes the index, config.json and the files of the text. text.tokenizer.model: the model from which
/// training started, or "". All keys of its config.json are kept except dtype, architectures, tie_word_embeddings,
/// quantization_config, and eos_token_id where it lacks the tokenizer's EOS. Throws DataError if that config describes
/// another model.
void finish_export(const ExportPlan& plan, const std::string& temporary, const ModelConfig& config,
                   const ExportedText& text);

}  // namespace plumb
