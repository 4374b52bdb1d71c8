add_library(plumb_warnings INTERFACE)
target_compile_options(plumb_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>  # g++ 12 reports false overlaps in std::string
  $<$<BOOL:${PLUMB_WARNINGS_AS_ERRORS}>:-Werror>)

# plumb_library(NAME SOURCES... [LINK targets...] [TORCH]): a static library, with the repository root as include root
# and, with TORCH, LibTorch and its precompiled header.
function(plumb_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} PRIVATE plumb_warnings)
  if(ARG_TORCH)
    target_link_libraries(${name} PUBLIC LibTorch::LibTorch)
    target_precompile_headers(${name} REUSE_FROM plumb_torch_pch)
  endif()
endfunction()
