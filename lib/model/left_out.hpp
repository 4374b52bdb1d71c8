// Architectures that people ask for and plumb does not train, with the reason, so that none is run as its nearest
// relative. A family that is added loses its row here.
#pragma once

#include <string_view>

namespace plumb {

/// Why there is no family of this model_type, for a message; empty if nothing is known about it.
std::string_view reason_left_out(std::string_view model_type);

}  // namespace plumb
