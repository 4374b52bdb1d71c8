// Writes a model directory whose NF4 matrices are stored as bitsandbytes and transformers store them, from all ranks at
// once: one rank writes each tensor, to a place that is planned beforehand. Other tensors keep their dtype.
//
//   rank 0:   AtomicDirectory exported(directory); create_export_files(plan.files, temporary)
//   each:     write_nf4_parameter(plan, temporary, model, i) for its parameters;
//             sync_export_files(plan.files, temporary)
//   rank 0:   finish_nf4_export(plan, temporary, model); exported.publish()
//
// where temporary = exported.temporary_path(). The caller puts barriers between these lines.
// Source: bitsandbytes, functional.py, QuantState; transformers, BitsAndBytesConfig.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/huggingface/export_files.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

struct Nf4ExportPlan {
  /// A tensor in the files: an unquantized parameter, or a part of a quantized one.
  struct Tensor {
    std::string name;
    ExportFiles::Place place;
    int64_t num_bytes = 0;
  };
  struct PlannedParameter {
    Parameter parameter;
    bool is_quantized = false;
    std::vector<Tensor> tensors;
  };
  std::vector<ExportFile> files;
  std::vector<PlannedParameter> parameters;
  int64_t tensor_bytes = 0;  // without headers
  int64_t num_parameters = 0;
  int64_t num_quantized = 0;  // matrices
  bool has_nested_scales = false;
  Dtype compute_dtype = Dtype::kF32;  // the dtype in which bitsandbytes will multiply
};

/// `model` must be quantized (HfModel::is_quantized()). The plan is the same on every rank. Throws DataError for a
/// parameter that is in no file.
Nf4ExportPlan plan_nf4_export(const HfModel& model, int64_t max_file_bytes = kDefaultExportFileBytes);

/// Any rank: reads plan.parameters[index], quantized or not, and writes it. Throws DataError for a value that is not
/// finite, and InputOutputError.
void write_nf4_parameter(const Nf4ExportPlan& plan, const std::string& temporary, const HfModel& model, size_t index);

/// Rank 0 only: writes the index, config.json and the tokenizer files. config.json is that of the model directory with
/// its quantization_config set. Throws InputOutputError.
void finish_nf4_export(const Nf4ExportPlan& plan, const std::string& temporary, const HfModel& model);

}  // namespace plumb
