// A logged number.
#pragma once

#include <string>

namespace plumb {

struct Metric {
  std::string name;  // as in TRL
  double value = 0;
};

}  // namespace plumb
