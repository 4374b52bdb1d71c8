// Which operations of streams are ordered, and which accesses to memory are not: two accesses to the same bytes, one of
// them a write, that nothing orders are an error whether or not a run shows wrong numbers.
// Source: vector clocks, Mattern 1989; race detection with them, FastTrack (Flanagan and Freund, PLDI 2009).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace plumb::fake {

struct Access {
  const void* begin;
  size_t bytes;
  bool is_write;
};
inline Access reads(const void* begin, size_t bytes) { return {begin, bytes, false}; }
inline Access writes(const void* begin, size_t bytes) { return {begin, bytes, true}; }

/// Indexed by stream: how many of its operations happen before.
using Clock = std::vector<int64_t>;
void join(Clock& clock, const Clock& other);
/// Whether all that `other` names happens before `clock`.
bool implies(const Clock& clock, const Clock& other);

/// An operation as the log names it in errors.
struct Actor {
  std::string operation;
  int stream;
  std::string stream_name;
};

/// All allocations of a device, and the accesses to them.
class AccessLog {
 public:
  void add_block(const void* begin, size_t bytes);
  /// False if no block begins there.
  bool remove_block(const void* begin);
  size_t num_blocks() const { return blocks_.size(); }
  /// Whether the bytes are within one block.
  bool contains(const void* begin, size_t bytes) const { return find(begin, bytes) != nullptr; }

  /// Checks an access against all before it. clock: that of the operation, itself included. report: called with each
  /// error.
  void record(const Actor& actor, const Clock& clock, const Access& access,
              const std::function<void(std::string)>& report);

 private:
  struct Entry {
    const std::byte* begin;
    const std::byte* end;
    bool is_write;
    int64_t number;  // of the operation in its stream
    Actor actor;
  };
  struct Block {
    size_t bytes;
    std::vector<Entry> entries;
  };
  const Block* find(const void* begin, size_t bytes) const;

  std::map<const std::byte*, Block> blocks_;
};

}  // namespace plumb::fake
