// Copies between the device and ordinary memory of the host, through two pinned pieces: the device copies one while the
// host copies the other. The host waits for the copy, and with it for all work of the stream before it.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "lib/device/events.hpp"
#include "lib/device/memory.hpp"

namespace plumb {

class Transfer {
 public:
  explicit Transfer(int64_t piece_bytes = int64_t{4} << 20)
      : piece_bytes_(piece_bytes), pieces_{PinnedMemory(piece_bytes), PinnedMemory(piece_bytes)} {}

  void to_host(std::span<std::byte> host, const std::byte* device, cudaStream_t stream) {
    for_each_piece(std::ssize(host), [&](int64_t begin, int64_t size, int slot) {
      copy(pieces_[slot].data(), device + begin, size, cudaMemcpyDeviceToHost, stream);
      copied_[slot].record(stream);
      if (begin > 0) take(host.subspan(begin - piece_bytes_, piece_bytes_), 1 - slot);
    });
    const int64_t last = (std::ssize(host) - 1) / piece_bytes_;
    if (!host.empty()) take(host.subspan(last * piece_bytes_), static_cast<int>(last % 2));
  }

  void to_device(std::byte* device, std::span<const std::byte> host, cudaStream_t stream) {
    for_each_piece(std::ssize(host), [&](int64_t begin, int64_t size, int slot) {
      wait(slot);  // for the copy of the piece that was in this memory
      std::memcpy(pieces_[slot].data(), host.data() + begin, static_cast<size_t>(size));
      copy(device + begin, pieces_[slot].data(), size, cudaMemcpyHostToDevice, stream);
      copied_[slot].record(stream);
    });
    for (const int slot : {0, 1}) wait(slot);
  }

 private:
  template <class Body>
  void for_each_piece(int64_t bytes, const Body& body) const {
    for (int64_t begin = 0; begin < bytes; begin += piece_bytes_)
      body(begin, std::min(piece_bytes_, bytes - begin), static_cast<int>(begin / piece_bytes_ % 2));
  }
  static void copy(std::byte* to, const std::byte* from, int64_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    check_cuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream), "copy from or to the host");
  }
  void take(std::span<std::byte> host, int slot) {
    wait(slot);
    std::memcpy(host.data(), pieces_[slot].data(), host.size());
  }
  void wait(int slot) const { copied_[slot].synchronize(); }

  int64_t piece_bytes_;
  std::array<PinnedMemory, 2> pieces_;
  std::array<Event, 2> copied_;
};

}  // namespace plumb
