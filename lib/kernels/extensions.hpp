// Extensions of x86-64-v4 for bfloat16, which kernels.cpp's levels do not include.
#pragma once

namespace plumb {

/// AVX512-BF16 on a processor of level x86-64-v4.
bool has_bfloat16_pairs();

/// AMX with bfloat16, likewise. Also asks Linux for the tile registers, which it grants to a process once and for all
/// its threads.
bool has_bfloat16_tiles();

}  // namespace plumb
