// Reads a GGUF file back, written for the tests from the description of the format alone.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace plumb {

struct ReadTensor {
  std::vector<int64_t> shape;  // as in the file: the elements of a row first
  uint32_t type = 0;
  std::vector<float> values;
  std::vector<float> steps;  // of Q8_0: the scale of each value
};

class GgufReader {
 public:
  explicit GgufReader(std::string bytes) : bytes_(std::move(bytes)) {
    expect(text(4) == "GGUF", "the magic");
    expect(number<uint32_t>() == 3, "version 3");
    const auto num_tensors = number<uint64_t>(), num_values = number<uint64_t>();
    for (uint64_t i = 0; i < num_values; ++i) {
      const std::string key = text();
      expect(!metadata.contains(key), "each key once");
      metadata[key] = value(number<uint32_t>());
    }
    std::map<std::string, uint64_t> offsets;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      const std::string name = text();
      expect(!tensors.contains(name), "each tensor once");
      ReadTensor& tensor = tensors[name];
      for (auto num_dimensions = number<uint32_t>(); num_dimensions > 0; --num_dimensions)
        tensor.shape.push_back(static_cast<int64_t>(number<uint64_t>()));
      tensor.type = number<uint32_t>();
      offsets[name] = number<uint64_t>();
    }
    const size_t data = (at_ + 31) / 32 * 32;
    size_t end = data;
    for (auto& [name, tensor] : tensors) {
      expect(offsets.at(name) % 32 == 0, "aligned tensors");
      at_ = data + offsets.at(name);
      read_values(tensor);
      end = std::max(end, at_);
    }
    expect((end + 31) / 32 * 32 == bytes_.size(), "nothing after the last tensor");
  }

  std::map<std::string, nlohmann::json> metadata;
  std::map<std::string, ReadTensor> tensors;

 private:
  static void expect(bool is_true, const char* what) {
    if (!is_true) throw std::runtime_error(std::string("GGUF: expected ") + what);
  }
  template <class T>
  T number() {
    T result;
    std::memcpy(&result, text(sizeof(T)).data(), sizeof(T));
    return result;
  }
  std::string text(size_t size) {
    expect(at_ + size <= bytes_.size(), "more bytes");
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  std::string text() { return text(number<uint64_t>()); }
  nlohmann::json value(uint32_t type) {
    if (type == 4) return number<uint32_t>();
    if (type == 5) return number<int32_t>();
    if (type == 6) return number<float>();
    if (type == 7) return number<uint8_t>() != 0;
    if (type == 8) return text();
    expect(type == 9, "a type of value that is written");
    const auto element = number<uint32_t>();
    nlohmann::json array = nlohmann::json::array();
    for (auto size = number<uint64_t>(); size > 0; --size) array.push_back(value(element));
    return array;
  }
  float half() {
    const auto bits = number<uint16_t>();
    const int exponent = bits >> 10 & 31;
    const float fraction = static_cast<float>(bits & 1023) / 1024;
    const float magnitude = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15);
    return bits >> 15 ? -magnitude : magnitude;
  }
  void read_values(ReadTensor& tensor) {
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    while (std::ssize(tensor.values) < count) {
      if (tensor.type == 0) {
        tensor.values.push_back(number<float>());
      } else if (tensor.type == 30) {
        tensor.values.push_back(std::bit_cast<float>(static_cast<uint32_t>(number<uint16_t>()) << 16));
      } else {
        expect(tensor.type == 8, "a type of tensor that is written");
        const float scale = half();
        for (int i = 0; i < 32; ++i) {
          tensor.values.push_back(scale * static_cast<float>(number<int8_t>()));
          tensor.steps.push_back(scale);
        }
      }
    }
  }

  std::string bytes_;
  size_t at_ = 0;
};

}  // namespace plumb
