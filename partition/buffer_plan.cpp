#include "partition/buffer_plan.hpp"

#include <algorithm>

namespace plumb {

namespace {

struct ByteSpan {
  int64_t begin;
  int64_t end;
};

}  // namespace

int64_t place_buffers(std::vector<TimedBuffer>& buffers) {
  std::vector<TimedBuffer*> placed;  // the largest first: small ones fit around them
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

BufferPlan plan_buffers(const std::vector<ShardLayout>& units, bool is_tied, int64_t element_bytes) {
  const int num_blocks = static_cast<int>(units.size()) - (is_tied ? 1 : 2);
  const int head = is_tied ? 0 : num_blocks + 1;
  std::vector<int> gathered, reduced;
  for (int unit = 0; unit <= num_blocks; ++unit) gathered.push_back(unit);
  gathered.push_back(head);
  for (int unit = num_blocks; unit >= 1; --unit) gathered.push_back(unit);
  if (!is_tied) reduced.push_back(head);
  for (int unit = num_blocks; unit >= 0; --unit) reduced.push_back(unit);

  BufferPlan plan;
  plan.num_forward_gathers = num_blocks + 2;
  // a gather is under way while the one before it is in use
  std::vector<TimedBuffer> slots;
  for (int64_t i = 0; i < std::ssize(gathered); ++i)
    slots.push_back({units[static_cast<size_t>(gathered[static_cast<size_t>(i)])].padded_elements() * element_bytes,
                     std::max<int64_t>(i - 1, 0), i});
  plan.slot_bytes = place_buffers(slots);
  for (size_t i = 0; i < gathered.size(); ++i)
    plan.gathers.push_back({gathered[i], {slots[i].offset_bytes, slots[i].bytes}});

  // a reduce-scatter is under way while the next unit computes; a tied embedding collects from the head to the end
  std::vector<TimedBuffer> gradients;
  for (int64_t i = 0; i < std::ssize(reduced); ++i) {
    const int unit = reduced[static_cast<size_t>(i)];
    const bool is_vocabulary = unit == 0 || unit == head;
    gradients.push_back({units[static_cast<size_t>(unit)].padded_elements() * (is_vocabulary ? 4 : element_bytes),
                         is_tied && unit == 0 ? 0 : i, i + 1});
  }
  plan.gradient_bytes = place_buffers(gradients);
  for (size_t i = 0; i < reduced.size(); ++i)
    plan.reduces.push_back({reduced[i], {gradients[i].offset_bytes, gradients[i].bytes}});
  return plan;
}

}  // namespace plumb
