// Byte pair encoding of one word: characters are merged, the pair of lowest rank first and the leftmost of equal pairs.
// Source: Sennrich et al., arXiv:1508.07909; details (unknown characters, byte fallback) as in huggingface/tokenizers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/vocabulary.hpp"

namespace plumb {

struct BpeOptions {
  std::optional<std::string> unknown_token;  // without one, unknown characters are dropped
  bool fuses_unknown = false;                // a run of unknown characters becomes one token
  bool falls_back_to_bytes = false;          // unknown characters become <0xNN> tokens
  bool ignores_merges = false;               // a word in the vocabulary becomes one token, regardless of merges
  bool operator==(const BpeOptions&) const = default;
};

/// Merges two adjacent tokens into one.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
  int32_t rank = 0;
  bool operator==(const Merge&) const = default;
};

/// A hash table from the ids of both sides to rank and result.
class MergeTable {
 public:
  struct Entry {
    uint64_t pair = UINT64_MAX;
    int32_t rank = 0;
    int32_t result = 0;
  };
  MergeTable() = default;
  /// If a pair occurs twice, its last merge counts.
  explicit MergeTable(const std::vector<Merge>& merges);
  /// Null if the two do not merge.
  const Entry* find(int32_t left, int32_t right) const {
    const uint64_t pair = pair_of(left, right);
    for (size_t slot = slot_of(pair); entries_[slot].pair != UINT64_MAX; slot = (slot + 1) & mask_) {
      if (entries_[slot].pair == pair) return &entries_[slot];
    }
    return nullptr;
  }

 private:
  static uint64_t pair_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> shift_; }

  std::vector<Entry> entries_ = std::vector<Entry>(2);  // a power of two, at most half full
  size_t mask_ = 1;
  int shift_ = 63;
};

/// Immutable, so threads can share it; each thread has its own cache of short words.
class Bpe {
 public:
  /// Merges are ordered by rank and refer to ids of `vocabulary`.
  Bpe(Vocabulary vocabulary, const std::vector<Merge>& merges, BpeOptions options);

  /// Appends the ids of `word`, which is valid UTF-8. Throws DataError if a character and the unknown token are both
  /// missing from the vocabulary.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Scratch;
  bool never_merges_before_mark() const;
  void encode_part(std::string_view word, std::vector<int32_t>& ids) const;
  void encode_uncached(std::string_view word, std::vector<int32_t>& ids) const;
  void start(std::string_view word, Scratch& scratch) const;
  void merge(Scratch& scratch) const;
  int32_t character_id(std::string_view word, size_t at, size_t size_bytes) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<int32_t> results_;  // by rank
  BpeOptions options_;
  std::array<int32_t, 256> byte_ids_{};     // ids of <0xNN>, or -1
  std::array<int32_t, 0x800> short_ids_{};  // ids of characters of one or two bytes, or -1
  int32_t unknown_id_ = -1;
  bool splits_at_marks_ = false;
  uint64_t identity_;  // distinguishes tokenizers in the cache of a thread
};

}  // namespace plumb
