# All dependencies of plumb. `./dev` installs missing ones.
find_package(Threads REQUIRED)
find_package(LibTorch REQUIRED)
# at::parallel_for is a template, which runs on one thread if compiled without OpenMP. Fuzz targets link no LibTorch,
# and for their compiler, clang, OpenMP is a separate package.
if(NOT PLUMB_BUILD_FUZZERS)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  # by compiler flag, not by library path: the OpenMP library loaded at run time is LibTorch's own, beside it
  target_compile_options(LibTorch::LibTorch INTERFACE ${OpenMP_CXX_FLAGS})
  target_link_options(LibTorch::LibTorch INTERFACE ${OpenMP_CXX_FLAGS})
endif()
find_package(MPI REQUIRED COMPONENTS C)
# Open MPI 4 and MPICH add C++ bindings to mpi.h for any C++ compiler; nothing here uses or links them.
target_compile_definitions(MPI::MPI_C INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
find_package(ZLIB REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
find_package(ArrowParquet)  # optional: without it, Parquet files are refused
# The serial HDF5, since every rank writes its own files. Debian names its pkg-config module hdf5-serial; elsewhere
# FindHDF5.
pkg_check_modules(HDF5_SERIAL QUIET IMPORTED_TARGET hdf5-serial)
if(HDF5_SERIAL_FOUND)
  add_library(plumb_hdf5 ALIAS PkgConfig::HDF5_SERIAL)
else()
  find_package(HDF5 REQUIRED COMPONENTS C)
  add_library(plumb_hdf5 INTERFACE)
  target_include_directories(plumb_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
  target_link_libraries(plumb_hdf5 INTERFACE ${HDF5_C_LIBRARIES})
endif()
