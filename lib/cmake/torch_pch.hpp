// Precompiled for every source that includes LibTorch: 5-9 s of parsing once instead of per file.
#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>
