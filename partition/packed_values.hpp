// Serialization of values that ranks send to each other: plain values as they are in memory, strings, and vectors of
// these. All ranks of a job run the same program on the same kind of machine, so the format needs no version.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lib/base/check.hpp"

namespace plumb {

/// A trivially copyable value without pointers or views, which would be invalid on another rank.
template <class T>
concept PlainValue = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> && !std::ranges::borrowed_range<T>;

namespace packing {

template <class T>
struct VectorElement : std::false_type {};
template <class T>
struct VectorElement<std::vector<T>> : std::true_type {
  using Type = T;
};

}  // namespace packing

/// Serializes a plain value, a string, or a vector of one of these, including nested vectors.
template <class T>
std::string pack(const T& value) {
  std::string bytes;
  if constexpr (PlainValue<T>) {
    bytes.assign(reinterpret_cast<const char*>(&value), sizeof value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    bytes = value;
  } else {
    static_assert(packing::VectorElement<T>::value, "only plain values, strings and vectors are sent");
    if constexpr (PlainValue<typename packing::VectorElement<T>::Type>) {
      bytes.assign(reinterpret_cast<const char*>(value.data()), std::span(value).size_bytes());
    } else {
      for (const auto& element : value) {
        const std::string packed = pack(element);
        bytes += pack(std::ssize(packed)) + packed;
      }
    }
  }
  return bytes;
}

/// Inverse of pack<T>(). Throws std::logic_error if the size of `bytes` does not fit T.
template <class T>
T unpack(std::string_view bytes) {
  if constexpr (PlainValue<T>) {
    std::array<char, sizeof(T)> raw = {};
    check(bytes.size() == raw.size(), "a rank sends a value of the type that is received");
    std::memcpy(raw.data(), bytes.data(), raw.size());
    return std::bit_cast<T>(raw);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return std::string(bytes);
  } else {
    using Element = typename packing::VectorElement<T>::Type;
    T values;
    if constexpr (PlainValue<Element>) {
      values.resize(bytes.size() / sizeof(Element));
      check(std::span(values).size_bytes() == bytes.size(), "a rank sends whole values");
      if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    } else {
      constexpr size_t kPrefix = sizeof(int64_t);
      while (!bytes.empty()) {
        const auto size = unpack<int64_t>(bytes.substr(0, kPrefix));
        check(size >= 0 && kPrefix + size <= bytes.size(), "a rank sends whole values");
        values.push_back(unpack<Element>(bytes.substr(kPrefix, size)));
        bytes.remove_prefix(kPrefix + size);
      }
    }
    return values;
  }
}

}  // namespace plumb
