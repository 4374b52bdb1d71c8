#include "io/gguf/gguf_file.hpp"

#include <type_traits>

namespace plumb {

namespace {

constexpr uint32_t kVersion = 3;
constexpr int64_t kAlignment = 32;  // general.alignment, where the metadata names none

// the codes of value types in a file
template <class T>
constexpr uint32_t kTypeCode = 9;  // an array
template <>
constexpr uint32_t kTypeCode<uint32_t> = 4;
template <>
constexpr uint32_t kTypeCode<int32_t> = 5;
template <>
constexpr uint32_t kTypeCode<float> = 6;
template <>
constexpr uint32_t kTypeCode<bool> = 7;
template <>
constexpr uint32_t kTypeCode<std::string> = 8;

template <class T>
void append(std::string& bytes, const T& number) {
  static_assert(std::is_arithmetic_v<T>);
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(T));
}
void append(std::string& bytes, const std::string& text) {
  append(bytes, uint64_t{text.size()});
  bytes += text;
}
template <class T>
void append(std::string& bytes, const std::vector<T>& values) {
  append(bytes, kTypeCode<T>);
  append(bytes, uint64_t{values.size()});
  for (const T& value : values) append(bytes, value);
}

void append_info(std::string& bytes, const GgufTensorInfo& tensor, int64_t data_offset_bytes) {
  append(bytes, tensor.name);
  append(bytes, static_cast<uint32_t>(tensor.shape.size()));
  for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
    append(bytes, static_cast<uint64_t>(*size));
  append(bytes, static_cast<uint32_t>(tensor.number));
  append(bytes, static_cast<uint64_t>(data_offset_bytes));
}

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

GgufLayout lay_out_gguf(const GgufMetadata& metadata, const std::vector<GgufTensorInfo>& tensors) {
  GgufLayout layout;
  std::string& header = layout.header;
  header = "GGUF";
  append(header, kVersion);
  append(header, uint64_t{tensors.size()});
  append(header, uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    append(header, key);
    std::visit(
        [&](const auto& held) {
          append(header, kTypeCode<std::decay_t<decltype(held)>>);
          append(header, held);
        },
        value);
  }
  int64_t data_bytes = 0;
  for (const GgufTensorInfo& tensor : tensors) {
    append_info(header, tensor, data_bytes);
    layout.offset_bytes.push_back(data_bytes);
    data_bytes += aligned(tensor.num_bytes());
  }
  header.resize(aligned(std::ssize(header)), '\0');
  for (int64_t& offset : layout.offset_bytes) offset += std::ssize(header);
  layout.size_bytes = std::ssize(header) + data_bytes;
  return layout;
}

}  // namespace plumb
