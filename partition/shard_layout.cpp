#include "partition/shard_layout.hpp"

#include <algorithm>

namespace plumb {

ShardLayout::ShardLayout(UnitLayout unit, int num_ranks) : unit_(std::move(unit)), num_ranks_(num_ranks) {
  const int64_t multiple = kShardAlignment * num_ranks;
  shard_elements_ = (unit_.num_elements + multiple - 1) / multiple * kShardAlignment;
  int64_t end = 0;
  for (const Parameter& parameter : unit_.parameters) {
    if (parameter.offset > end) gaps_.push_back({end, parameter.offset});
    end = parameter.offset + parameter.num_elements();
  }
  if (end < padded_elements()) gaps_.push_back({end, padded_elements()});
}

std::vector<DecayRun> ShardLayout::decay_runs(int rank) const {
  const ElementRange mine = shard(rank);
  std::vector<DecayRun> runs;
  for (size_t i = 0; i < unit_.parameters.size(); ++i) {
    const Parameter& parameter = unit_.parameters[i];
    const int64_t next = i + 1 < unit_.parameters.size() ? unit_.parameters[i + 1].offset : padded_elements();
    const ElementRange part{std::max(mine.begin, parameter.offset), std::min(mine.end, next)};
    if (part.begin >= part.end) continue;
    if (!runs.empty() && runs.back().is_decayed == parameter.is_decayed()) {
      runs.back().end = part.end - mine.begin;
    } else {
      runs.push_back({part.begin - mine.begin, part.end - mine.begin, parameter.is_decayed()});
    }
  }
  return runs;
}

}  // namespace plumb
