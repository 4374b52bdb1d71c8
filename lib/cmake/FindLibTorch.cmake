# Finds the CPU part of a LibTorch: LibTorch::LibTorch links only libtorch_cpu.so and libc10.so; with PLUMB_GPU also
# libtorch_cuda.so and libc10_cuda.so. Searches PLUMB_LIBTORCH, CMAKE_PREFIX_PATH and the folder that `./dev` fills.
# LibTorch's own TorchConfig.cmake is not used, because that of a CUDA wheel requires a CUDA toolkit.
set(_plumb_cache "$ENV{PLUMB_CACHE}")
if(NOT _plumb_cache)
  set(_plumb_cache "$ENV{HOME}/.cache/plumb")
endif()
set(_hints ${PLUMB_LIBTORCH} ${CMAKE_PREFIX_PATH} ${_plumb_cache}/torch-2.15.0/torch)
find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h HINTS ${_hints} PATH_SUFFIXES include torch/include ../../../include)
find_library(LibTorch_CPU torch_cpu HINTS ${_hints} PATH_SUFFIXES lib torch/lib ../../../lib)
find_library(LibTorch_C10 c10 HINTS ${_hints} PATH_SUFFIXES lib torch/lib ../../../lib)
set(_required LibTorch_CPU LibTorch_C10 LibTorch_INCLUDE_DIR)
if(PLUMB_GPU)
  find_library(LibTorch_CUDA torch_cuda HINTS ${_hints} PATH_SUFFIXES lib torch/lib ../../../lib)
  find_library(LibTorch_C10_CUDA c10_cuda HINTS ${_hints} PATH_SUFFIXES lib torch/lib ../../../lib)
  list(APPEND _required LibTorch_CUDA LibTorch_C10_CUDA)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS ${_required}
  REASON_FAILURE_MESSAGE "run ./dev setup, or point -DPLUMB_LIBTORCH at a LibTorch")
if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  # Only LibTorch's own headers: its include directory also contains headers of libraries that plumb takes from the
  # system.
  set(_own_headers ${CMAKE_BINARY_DIR}/libtorch_include)
  file(MAKE_DIRECTORY ${_own_headers})
  foreach(_folder ATen c10 torch caffe2)
    file(CREATE_LINK ${LibTorch_INCLUDE_DIR}/${_folder} ${_own_headers}/${_folder} SYMBOLIC)
  endforeach()
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE ${_own_headers})
  target_compile_definitions(LibTorch::LibTorch INTERFACE AT_PER_OPERATOR_HEADERS)
  get_filename_component(LibTorch_LIBRARY_DIR ${LibTorch_CPU} DIRECTORY)
  # the wheel's libraries depend on two CUDA libraries beside it, which the linker need not resolve
  target_link_libraries(LibTorch::LibTorch INTERFACE ${LibTorch_CPU} ${LibTorch_C10}
    -Wl,--unresolved-symbols=ignore-in-shared-libs)
  if(PLUMB_GPU)  # nothing refers to its operators, which it registers when it is loaded
    target_link_libraries(LibTorch::LibTorch INTERFACE
      -Wl,--push-state,--no-as-needed ${LibTorch_CUDA} ${LibTorch_C10_CUDA} -Wl,--pop-state)
  endif()
endif()
