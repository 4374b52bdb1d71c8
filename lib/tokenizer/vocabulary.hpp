// Token strings by id and ids by token string; ids may have gaps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

class Vocabulary {
 public:
  /// Throws DataError with `where` if the token or the id is taken. `id` must be within [0, kMaxVocabSize).
  void add(std::string_view token, int32_t id, std::string_view where);

  /// The id, or -1.
  int32_t find(std::string_view token) const;
  bool contains(int32_t id) const;
  /// Valid until the next add; "" for unused ids.
  std::string_view token(int32_t id) const;
  /// One past the largest id.
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }

 private:
  static constexpr uint32_t kAbsent = UINT32_MAX;
  struct Entry {
    uint32_t begin = kAbsent, end = kAbsent;  // range of text_
  };
  size_t slot_of(std::string_view token) const;
  void grow();

  std::string text_;            // all tokens concatenated
  std::vector<Entry> entries_;  // by id
  std::vector<int32_t> slots_;  // open addressing, -1: free; a power of two, at most half full
  size_t count_ = 0;
};

}  // namespace plumb
