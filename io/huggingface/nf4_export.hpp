// Writes a model directory whose NF4 matrices are stored as bitsandbytes and transformers store them, from all ranks at
// once: a tensor is written by one rank, to a place that is known before. Everything else keeps the dtype that it has.
//
//   rank 0:   temporary = begin_export(directory); create_export_files(plan.files, temporary)
//   each:     write_nf4_parameter(plan, temporary, model, i) of its parameters; sync_export_files(plan.files,
//   temporary) rank 0:   finish_nf4_export(plan, temporary, model); commit_export(temporary, directory) on error:
//   abandon_export(temporary)
//
// The caller puts barriers between these lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/huggingface/export_files.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

struct Nf4ExportPlan {
  /// A tensor of the files: a parameter as it is, or a part of one that is quantized.
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
  Dtype compute_dtype = Dtype::kF32;  // what bitsandbytes is told to multiply in
};

/// `model`: one of which HfModel says that it is quantized. The same on every rank. Throws DataError where a parameter
/// is in no file.
Nf4ExportPlan plan_nf4_export(const HfModel& model, int64_t max_file_bytes = kDefaultExportFileBytes);

/// Any rank: reads plan.parameters[index], quantized or not, and writes it. Throws DataError on what is not finite,
/// InputOutputError.
void write_nf4_parameter(const Nf4ExportPlan& plan, const std::string& temporary, const HfModel& model, size_t index);

/// Rank 0 only: index, config.json and the tokenizer's files. config.json is that of the model's directory with its
/// quantization_config. Throws InputOutputError.
void finish_nf4_export(const Nf4ExportPlan& plan, const std::string& temporary, const HfModel& model);

}  // namespace plumb
