# cmake --install build --prefix X: a tree that runs wherever it is moved to. X/bin/plumb, X/lib with LibTorch and what that
# brings beside itself, X/share/plumb/slurm. MPI, HDF5 and the like stay the machine's own.
include(GNUInstallDirs)

# LibTorch's libraries look for each other beside themselves, so only the program needs paths: theirs, then those it was linked
# with, for an MPI or HDF5 that is not in a system folder
file(RELATIVE_PATH _bin_to_lib /prefix/${CMAKE_INSTALL_BINDIR} /prefix/lib)
set_target_properties(plumb PROPERTIES INSTALL_RPATH "$ORIGIN/${_bin_to_lib}" INSTALL_RPATH_USE_LINK_PATH ON)

# A PyPI wheel lies at R/torch/lib and its CUDA libraries at R/nvidia; any other LibTorch has all in one folder.
get_filename_component(_libtorch ${LibTorch_LIBRARY_DIR} REALPATH)
get_filename_component(_wheels ${_libtorch}/../../nvidia ABSOLUTE)
set(_bundled ${_libtorch} ${_wheels})
list(TRANSFORM _bundled REPLACE "([][+.*()^$?|\\])" "\\\\\\1")
list(TRANSFORM _bundled REPLACE "(.+)" "^\\1/")

install(TARGETS plumb
  RUNTIME_DEPENDENCIES POST_INCLUDE_REGEXES ${_bundled} POST_EXCLUDE_REGEXES ".*"
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} LIBRARY DESTINATION lib)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/slurm DESTINATION ${CMAKE_INSTALL_DATADIR}/plumb USE_SOURCE_PERMISSIONS)
