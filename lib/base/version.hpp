// The version of plumb, from project(VERSION) in CMakeLists.txt.
#pragma once

#include <string_view>

namespace plumb {

/// "0.1.0"
std::string_view version();

}  // namespace plumb
