// The tile registers of AMX as plumb's kernels use them: eight tiles of sixteen rows of 64 bytes. Included by files
// that are compiled for AMX.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace plumb::PLUMB_ISA {

namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Our tile registers until destroyed; then again as a library may have configured them.
class TileRegisters {
 public:
  TileRegisters() {
    _tile_storeconfig(&before_);
    static constexpr TileConfig kConfig{};
    _tile_loadconfig(&kConfig);
  }
  ~TileRegisters() { _tile_loadconfig(&before_); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;

 private:
  TileConfig before_;
};

}  // namespace

}  // namespace plumb::PLUMB_ISA
