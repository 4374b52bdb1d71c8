// A row of floats beside a row of logits, so that exponentials are taken once. Included by the files that are compiled
// once per instruction set; it has no code of the standard library, which the linker could share with other files.
#pragma once

#include <cstdint>
#include <new>

#include "lib/kernels/kernels.hpp"

namespace plumb::PLUMB_ISA {

namespace {

class RowMemory {
 public:
  RowMemory() = default;
  ~RowMemory() { ::operator delete(data_); }
  RowMemory(const RowMemory&) = delete;
  RowMemory& operator=(const RowMemory&) = delete;

  float* of(int64_t num_elements) {
    if (size_ < num_elements) {
      ::operator delete(data_);
      data_ = nullptr;
      size_ = 0;
      data_ = static_cast<float*>(::operator new(static_cast<size_t>(num_elements) * sizeof(float)));
      size_ = num_elements;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

/// The row itself if it is of floats, else memory of this thread.
inline float* row_of_floats(float* row, int64_t) { return row; }
inline float* row_of_floats(BFloat16*, int64_t num_elements) {
  thread_local RowMemory memory;
  return memory.of(num_elements);
}

}  // namespace

}  // namespace plumb::PLUMB_ISA
