// Where the memory of a model is, and how its ranks exchange units there: a value that is made once, from communicator
// and device, and that every model of a run is given.
#pragma once

#include <ATen/core/Tensor.h>

#include "partition/exchange.hpp"

namespace plumb {

struct Placement {
  at::Device device = at::kCPU;
  /// Ranks of a node read each other's memory, so that one copy of what never changes serves them all.
  bool shares_node_memory = true;
  MakeExchange make_exchange = make_node_exchange;
};

}  // namespace plumb
