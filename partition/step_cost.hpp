// The time of a training step on a measured machine, before it starts: floating-point operations over the rate of
// products, bytes over the rates of memory and of the network, added up, since nothing overlaps yet. A lower estimate
// (benchmarks/results/step_time.md), which shows where the time goes and what bounds it. The rates are those of plumb
// doctor --measure. Source: the counts of Megatron-LM, arXiv:2104.04473, section 5.1; bytes of kernels as in
// lib/kernels/kernels.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "partition/memory_plan.hpp"

namespace plumb {

/// The rate of matrix products [512, size] x [size, size] of one rank while all ranks compute.
struct ProductRate {
  int64_t size;
  double flops_per_second;
};

/// The share of a machine that each rank of a job gets.
struct Machine {
  std::vector<ProductRate> float32, bfloat16;  // by increasing size, not empty
  double memory_bytes_per_second = 0;          // read and written
  double network_latency_seconds = 0;          // between hosts
  double network_bytes_per_second = 0;         // of a host, in one direction; 0: there is one host
};

/// Seconds of a step of full micro-batches.
struct StepCost {
  double products = 0;       // of blocks and head
  double attention = 0;      // scores and weighted values, in float32
  double kernels = 0;        // norms, activations, softmax: bound by memory
  double exchange = 0;       // gathers and sums on a host
  double network = 0;        // between hosts
  double update = 0;         // AdamW
  int64_t num_tokens = 0;    // of all ranks
  double product_flops = 0;  // of a rank
  double network_bytes = 0;  // that a host receives

  double seconds() const { return products + attention + kernels + exchange + network + update; }
};

/// text_tokens: of one text of a micro-batch, which its attention sees. The time to make completions is not in it.
/// Throws UsageError for several nodes on a machine without a network.
StepCost cost_of_step(const PlanInput& input, const MemoryPlan& plan, int64_t text_tokens, const Machine& machine);

/// Such as "one step takes 1.2 s: products 71 %, ...", with tokens per second. num_steps: 0 or those of the run.
std::string render_cost(const StepCost& cost, int64_t num_steps);

}  // namespace plumb
