#include "io/huggingface/safetensors_writer.hpp"

#include <cstring>
#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;

int64_t SafetensorsSpec::num_bytes() const {
  int64_t bytes = size_bytes(dtype);
  for (const int64_t size : shape) bytes *= size;
  return bytes;
}

std::string render_safetensors_header(std::span<const SafetensorsSpec> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset_bytes = 0;
  for (const SafetensorsSpec& spec : tensors) {
    const int64_t end_bytes = offset_bytes + spec.num_bytes();
    json entry = {{"dtype", dtype_info(spec.dtype).name}, {"shape", spec.shape}};
    entry["data_offsets"] = {offset_bytes, end_bytes};
    check(header.emplace(spec.name, std::move(entry)).second, "tensor names differ");
    offset_bytes = end_bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // aligns the buffer for readers that map the file
  const uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

}  // namespace plumb
