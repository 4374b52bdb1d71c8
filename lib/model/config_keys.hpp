// Keys of a config.json that do not change the model that plumb trains. A key that is neither read by the parser nor
// listed here is refused, so that no property of a model is dropped silently.
#pragma once

#include "lib/model/config_json.hpp"

namespace plumb {

/// Throws DataError for a key that nobody read and that is not known to be harmless.
void refuse_unknown_keys(const ConfigReader& reader);

}  // namespace plumb
