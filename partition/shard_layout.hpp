// Which rank owns which elements of a unit: pure arithmetic. A unit is padded so that every rank holds the same number
// of elements, a multiple of kShardAlignment. Vectorized loops and the chunks of a norm therefore begin at the same
// elements for every number of ranks.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "lib/model/parameters.hpp"
#include "lib/optim/adamw.hpp"

namespace plumb {

inline constexpr int64_t kShardAlignment = 256;

struct ElementRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

class ShardLayout {
 public:
  ShardLayout(UnitLayout unit, int num_ranks);

  const UnitLayout& unit() const { return unit_; }
  int64_t shard_elements() const { return shard_elements_; }
  int64_t padded_elements() const { return shard_elements_ * num_ranks_; }
  /// The range of the padded unit that `rank` owns. It may extend past the last parameter.
  ElementRange shard(int rank) const { return {rank * shard_elements_, (rank + 1) * shard_elements_}; }
  /// The padding between and after the parameters. Always zero, in parameters and gradients.
  const std::vector<ElementRange>& gaps() const { return gaps_; }
  /// The rank's shard as consecutive runs with and without weight decay, relative to its first element. Padding belongs
  /// to the run before it.
  std::vector<DecayRun> decay_runs(int rank) const;

 private:
  UnitLayout unit_;
  int num_ranks_;
  int64_t shard_elements_;
  std::vector<ElementRange> gaps_;
};

}  // namespace plumb
