# cmake --install build --prefix X: a relocatable tree of X/bin/plumb, X/lib with LibTorch, Arrow and the libraries bundled
# with them, and X/share/plumb/slurm. MPI, HDF5 and other libraries remain those of the machine.
include(GNUInstallDirs)

# LibTorch's libraries find each other by their own location, so only the program needs run paths: that of X/lib, then
# those it was linked with, for an MPI or HDF5 outside the system folders
file(RELATIVE_PATH _bin_to_lib /prefix/${CMAKE_INSTALL_BINDIR} /prefix/lib)
set_target_properties(plumb PROPERTIES INSTALL_RPATH "$ORIGIN/${_bin_to_lib}" INSTALL_RPATH_USE_LINK_PATH ON)

# A PyPI wheel is in R/torch/lib and its CUDA libraries in R/nvidia; any other LibTorch is in a single folder. Arrow is
# bundled where it comes from a wheel.
get_filename_component(_libtorch ${LibTorch_LIBRARY_DIR} REALPATH)
get_filename_component(_wheels ${_libtorch}/../../nvidia ABSOLUTE)
set(_bundled ${_libtorch} ${_wheels} ${ArrowParquet_LIBRARY_DIR})
list(TRANSFORM _bundled REPLACE "([][+.*()^$?|\\])" "\\\\\\1")
list(TRANSFORM _bundled REPLACE "(.+)" "^\\1/")

install(TARGETS plumb
  RUNTIME_DEPENDENCIES POST_INCLUDE_REGEXES ${_bundled} POST_EXCLUDE_REGEXES ".*"
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} LIBRARY DESTINATION lib)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/slurm DESTINATION ${CMAKE_INSTALL_DATADIR}/plumb USE_SOURCE_PERMISSIONS)

# What the program prints of its own declarations becomes a file.
function(install_output command path)
  install(CODE "
    set(file \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${path}\")
    message(STATUS \"Installing: \${file}\")
    cmake_path(GET file PARENT_PATH directory)
    file(MAKE_DIRECTORY \"\${directory}\")
    execute_process(COMMAND \"$<TARGET_FILE:plumb>\" ${command} OUTPUT_FILE \"\${file}\" COMMAND_ERROR_IS_FATAL ANY)"
    COMPONENT documentation)
endfunction()
install_output(man ${CMAKE_INSTALL_MANDIR}/man1/plumb.1)
install_output(completion ${CMAKE_INSTALL_DATADIR}/bash-completion/completions/plumb)
