#include "partition/buffer_plan.hpp"

#include <algorithm>

namespace plumb {

namespace {

constexpr int64_t kFlagAlignment = 64;  // of the gradient behind the flags

struct ByteSpan {
  int64_t begin;
  int64_t end;
};

}  // namespace

int64_t place_buffers(std::vector<TimedBuffer>& buffers) {
  std::vector<TimedBuffer*> placed;  // largest first, so that small buffers fill the gaps
  for (TimedBuffer& buffer : buffers) placed.push_back(&buffer);
  std::stable_sort(placed.begin(), placed.end(), [](const auto* a, const auto* b) { return a->bytes > b->bytes; });
  int64_t total = 0;
  for (size_t i = 0; i < placed.size(); ++i) {
    TimedBuffer& buffer = *placed[i];
    std::vector<ByteSpan> taken;
    for (size_t j = 0; j < i; ++j)
      if (placed[j]->first <= buffer.last && buffer.first <= placed[j]->last)
        taken.push_back({placed[j]->offset_bytes, placed[j]->offset_bytes + placed[j]->bytes});
    std::sort(taken.begin(), taken.end(), [](const ByteSpan& a, const ByteSpan& b) { return a.begin < b.begin; });
    for (const ByteSpan& span : taken)
      if (buffer.offset_bytes + buffer.bytes > span.begin)
        buffer.offset_bytes = std::max(buffer.offset_bytes, span.end);
    total = std::max(total, buffer.offset_bytes + buffer.bytes);
  }
  return total;
}

InPlace in_place(int num_ranks, int64_t accumulation_steps, Reduction reduction) {
  return {.parameters = num_ranks == 1,
          .gradients = num_ranks == 1 && (reduction == Reduction::kFast || accumulation_steps == 1)};
}

BufferPlan plan_buffers(const std::vector<ShardLayout>& units, bool is_tied, int64_t element_bytes,
                        const InPlace& in_place) {
  const int num_blocks = static_cast<int>(units.size()) - (is_tied ? 1 : 2);
  const int head = is_tied ? 0 : num_blocks + 1;
  std::vector<int> gathered, reduced;
  for (int unit = 0; unit <= num_blocks; ++unit) gathered.push_back(unit);
  gathered.push_back(head);
  for (int unit = num_blocks; unit >= 1; --unit) gathered.push_back(unit);
  if (!is_tied) reduced.push_back(head);
  for (int unit = num_blocks; unit >= 0; --unit) reduced.push_back(unit);
  const auto unit_bytes = [&](int unit, int64_t bytes) { return units[unit].padded_elements() * bytes; };

  BufferPlan plan;
  plan.num_forward_gathers = num_blocks + 2;
  if (in_place.parameters) {
    std::vector<int64_t> offsets;
    for (const ShardLayout& layout : units) {
      offsets.push_back(plan.gather_buffer_bytes);
      if (element_bytes != 4) plan.gather_buffer_bytes += layout.padded_elements() * element_bytes;
    }
    for (const int unit : gathered)
      plan.gathers.push_back({unit, {offsets[unit], unit_bytes(unit, element_bytes)}, element_bytes == 4});
  } else {
    // a gather is in progress while the unit before it is in use
    std::vector<TimedBuffer> buffers;
    for (int64_t i = 0; i < std::ssize(gathered); ++i)
      buffers.push_back({unit_bytes(gathered[i], element_bytes), std::max<int64_t>(i - 1, 0), i});
    plan.gather_buffer_bytes = place_buffers(buffers);
    for (size_t i = 0; i < gathered.size(); ++i)
      plan.gathers.push_back({gathered[i], {buffers[i].offset_bytes, buffers[i].bytes}});
  }

  // a reduce-scatter is in progress while the next unit computes; the gradient of a tied embedding accumulates from the
  // head's backward pass to the end
  std::vector<TimedBuffer> gradients;
  for (int64_t i = 0; i < std::ssize(reduced); ++i) {
    const int unit = reduced[i];
    const bool is_vocabulary = unit == 0 || unit == head;
    const int64_t bytes = unit_bytes(unit, is_vocabulary ? 4 : element_bytes);
    // the head's kernel overwrites its target, and bfloat16 gradients are not added to float32 accumulators directly
    const bool is_in_place = in_place.gradients && unit != head && (is_vocabulary || element_bytes == 4);
    UnitOperation& reduce = plan.reduces.emplace_back(UnitOperation{unit, {0, bytes}, is_in_place});
    if (unit == 0 && !is_tied && !is_in_place) {
      const std::vector<int64_t>& shape = units[unit].unit().parameters.front().shape;
      reduce.num_rows = shape[0];
      reduce.row_elements = shape[1];
    }
    const int64_t flag_bytes = (reduce.num_rows + kFlagAlignment - 1) / kFlagAlignment * kFlagAlignment;
    gradients.push_back({is_in_place ? 0 : bytes + flag_bytes, is_tied && unit == 0 ? 0 : i, i + 1});
  }
  plan.gradient_bytes = place_buffers(gradients);
  for (size_t i = 0; i < reduced.size(); ++i) plan.reduces[i].buffer.offset_bytes = gradients[i].offset_bytes;
  return plan;
}

int64_t piece_elements(int64_t shard_elements, int64_t element_bytes, int num_ranks, int64_t max_receive_bytes) {
  const int64_t fitting = max_receive_bytes / (num_ranks * element_bytes) / kShardAlignment * kShardAlignment;
  return std::min(shard_elements, std::max(fitting, kShardAlignment));
}

}  // namespace plumb
