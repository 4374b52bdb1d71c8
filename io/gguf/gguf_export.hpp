// Writes a model as a GGUF file from all ranks at once: the place of every byte is known before any is written.
//
//   rank 0:   AtomicFile exported(path); create_gguf_file(plan, temporary)
//   each:     write_gguf_tensor(plan, temporary, model, i) for its tensors
//   rank 0:   exported.publish()
//
// where temporary = exported.temporary_path(). The caller puts barriers between these lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/gguf/gguf_model.hpp"
#include "io/gguf/gguf_tokenizer.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"

namespace plumb {

struct GgufPlan {
  GgufLayout layout;
  std::vector<GgufTensor> tensors;
  std::vector<std::string> notes;  // what llama.cpp does otherwise, a sentence each
};

/// The plan is the same on every rank. end_ids: where generation ends. Throws DataError for a model or tokenizer that
/// llama.cpp does not run.
GgufPlan plan_gguf_export(const HfModel& model, const TokenizerSource& tokenizer, const std::vector<int32_t>& end_ids,
                          GgufNumber number);

/// Rank 0 only: writes the header and takes the disk space of the file. Throws InputOutputError.
void create_gguf_file(const GgufPlan& plan, const std::string& temporary);

/// Any rank: reads, converts and writes one tensor, a few rows at a time. Throws InputOutputError, and DataError for
/// weights that are not finite.
void write_gguf_tensor(const GgufPlan& plan, const std::string& temporary, const HfModel& model, int64_t index);

}  // namespace plumb
