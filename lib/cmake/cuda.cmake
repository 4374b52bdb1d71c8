# PLUMB_GPU: nvcc for lib/kernels/cuda. tests/cuda_on_cpu/compile.sh checks the same compilation.
set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real 120-real CACHE STRING "Architectures of GPUs to compile for")
if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc CACHE FILEPATH "nvcc")
endif()
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know it
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
string(APPEND CMAKE_CUDA_FLAGS " --expt-relaxed-constexpr")
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
find_package(CUDAToolkit REQUIRED)
# NCCL as LibTorch has it, beside it in a tree of wheels; else that of the toolkit or the system.
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${PLUMB_LIBTORCH}/../nvidia/nccl/include ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2
  HINTS ${PLUMB_LIBTORCH}/../nvidia/nccl/lib ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib REQUIRED)
add_library(NCCL::NCCL INTERFACE IMPORTED)
target_include_directories(NCCL::NCCL SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
target_link_libraries(NCCL::NCCL INTERFACE ${NCCL_LIBRARY})
