// Experts in other spellings than the one that plumb's parameters have: all experts of a layer in one tensor, as
// transformers 5 holds them in memory, and MXFP4, in which gpt-oss is published.
// Source: transformers 5.23, conversion_mapping.py and integrations/mxfp4.py; the OCP Microscaling format.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "io/huggingface/nf4_tensors.hpp"
#include "io/huggingface/safetensors.hpp"
#include "lib/model/model_config.hpp"

namespace plumb {

/// The parts of a tensor of all experts of a layer under the names of parameters, which are ranges of it; the router of
/// a Mixtral beside such tensors under its other name. Empty for any other tensor, and for one of another shape.
std::vector<SafetensorsEntry> split_experts(const SafetensorsEntry& entry, std::string_view name,
                                            const ModelConfig& config);

/// A tensor [experts, in, out] that the files hold in MXFP4 as [experts, out, in].
struct StoredMxfp4 {
  StoredTensor blocks, scales;
};

/// The parts of the tensor `name`; nullopt if there are none. shape: [experts, in, out]. Throws DataError with file,
/// tensor, expected and found.
std::optional<StoredMxfp4> find_mxfp4(const std::string& name, const std::vector<int64_t>& shape,
                                      const FindTensor& find);

/// Reads such tensors. An expert is dequantized as a whole, and ranges are usually read in sequence, so the last one is
/// cached. Thread-safe: reads may run concurrently.
class Mxfp4Reader {
 public:
  /// Fills `values` with the elements from `begin` on. Throws DataError if one is not finite.
  void read(const StoredMxfp4& tensor, const std::vector<int64_t>& shape, int64_t begin, std::span<float> values) const;

 private:
  struct Expert {
    const SafetensorsEntry* entry;
    int64_t index;
    std::vector<float> values;  // [in, out]
  };
  std::shared_ptr<const Expert> expert(const StoredMxfp4& tensor, const std::vector<int64_t>& shape,
                                       int64_t index) const;

  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Expert> last_;
};

}  // namespace plumb
