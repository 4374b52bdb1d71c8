// Writes a complete safetensors file in one call.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "io/huggingface/safetensors_writer.hpp"
#include "lib/base/check.hpp"

namespace plumb {

struct SafetensorsTensor {
  SafetensorsSpec spec;
  std::span<const std::byte> bytes;  // the whole tensor
};

/// Replaces or creates the file.
inline void write_safetensors_file(const std::string& path, std::span<const SafetensorsTensor> tensors,
                                   const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsSpec> specs;
  for (const SafetensorsTensor& tensor : tensors) {
    check(static_cast<int64_t>(tensor.bytes.size()) == tensor.spec.num_bytes(), "bytes fill the shape of the tensor");
    specs.push_back(tensor.spec);
  }
  std::string content = render_safetensors_header(specs, metadata);
  for (const SafetensorsTensor& tensor : tensors)
    content.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  write_file_atomically(path, content);
}

}  // namespace plumb
