// The host part of CUDA's runtime; see cuda_runtime_api.h.
#pragma once

#include <cuda_runtime_api.h>
