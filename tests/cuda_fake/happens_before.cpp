#include "tests/cuda_fake/happens_before.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace plumb::fake {

namespace {

const char* verb(bool is_write) { return is_write ? "writes" : "reads"; }

}  // namespace

void join(Clock& clock, const Clock& other) {
  clock.resize(std::max(clock.size(), other.size()));
  for (size_t stream = 0; stream < other.size(); ++stream) clock[stream] = std::max(clock[stream], other[stream]);
}

bool implies(const Clock& clock, const Clock& other) {
  for (size_t stream = 0; stream < other.size(); ++stream)
    if (other[stream] > (stream < clock.size() ? clock[stream] : 0)) return false;
  return true;
}

void AccessLog::add_block(const void* begin, size_t bytes) {
  blocks_[static_cast<const std::byte*>(begin)] = {bytes, {}};
}

bool AccessLog::remove_block(const void* begin) { return blocks_.erase(static_cast<const std::byte*>(begin)) > 0; }

const AccessLog::Block* AccessLog::find(const void* begin, size_t bytes) const {
  const auto* const first = static_cast<const std::byte*>(begin);
  auto after = blocks_.upper_bound(first);
  if (after == blocks_.begin()) return nullptr;
  const auto& [block_begin, block] = *--after;
  return first + bytes <= block_begin + block.bytes ? &block : nullptr;
}

void AccessLog::record(const Actor& actor, const Clock& clock, const Access& access,
                       const std::function<void(std::string)>& report) {
  if (access.bytes == 0) return;
  auto* const block = const_cast<Block*>(find(access.begin, access.bytes));
  if (block == nullptr) {
    report(fmt::format("{} on {} {} {} bytes that are not within an allocation of the device", actor.operation,
                       actor.stream_name, verb(access.is_write), access.bytes));
    return;
  }
  const auto* const begin = static_cast<const std::byte*>(access.begin);
  const auto* const end = begin + access.bytes;
  const auto is_before = [&](const Entry& entry) {
    return entry.actor.stream < std::ssize(clock) && clock[entry.actor.stream] >= entry.number;
  };
  for (const Entry& entry : block->entries) {
    if (entry.begin >= end || begin >= entry.end || !(entry.is_write || access.is_write) || is_before(entry)) continue;
    report(fmt::format("{} on {} {} bytes that {} on {} {}: nothing orders them", actor.operation, actor.stream_name,
                       verb(access.is_write), entry.actor.operation, entry.actor.stream_name, verb(entry.is_write)));
  }
  // an access that this one covers and follows is implied by it from now on
  std::erase_if(block->entries, [&](const Entry& entry) {
    return begin <= entry.begin && entry.end <= end && (access.is_write || !entry.is_write) && is_before(entry);
  });
  block->entries.push_back({begin, end, access.is_write, clock[actor.stream], actor});
}

}  // namespace plumb::fake
