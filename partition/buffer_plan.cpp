#include "partition/buffer_plan.hpp"

#include <algorithm>

namespace plumb {

int64_t place_buffers(std::vector<TimedBuffer>& buffers) {
  int64_t total = 0;
  for (size_t i = 0; i < buffers.size(); ++i) {
    TimedBuffer& buffer = buffers[i];
    std::vector<std::pair<int64_t, int64_t>> taken;  // [begin, end) of those alive at the same time
    for (size_t j = 0; j < i; ++j)
      if (buffers[j].first <= buffer.last && buffer.first <= buffers[j].last)
        taken.emplace_back(buffers[j].offset_bytes, buffers[j].offset_bytes + buffers[j].bytes);
    std::sort(taken.begin(), taken.end());
    for (const auto& [begin, end] : taken)
      if (buffer.offset_bytes + buffer.bytes > begin) buffer.offset_bytes = std::max(buffer.offset_bytes, end);
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
  if (is_tied) std::rotate(gradients.begin(), gradients.end() - 1, gradients.end());  // longest life first
  plan.gradient_bytes = place_buffers(gradients);
  if (is_tied) std::rotate(gradients.begin(), gradients.begin() + 1, gradients.end());
  for (size_t i = 0; i < reduced.size(); ++i)
    plan.reduces.push_back({reduced[i], {gradients[i].offset_bytes, gradients[i].bytes}});
  return plan;
}

}  // namespace plumb
