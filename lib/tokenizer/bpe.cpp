#include "lib/tokenizer/bpe.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxWordBytes = size_t{1} << 31;  // positions are int32_t

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// An entry of a direct-mapped cache of fixed size: a new word replaces an old one in its slot.
struct CachedWord {
  static constexpr size_t kMaxBytes = 31;
  static constexpr size_t kMaxIds = 8;
  uint64_t owner = 0;  // 0: unused
  uint8_t size_bytes = 0;
  std::array<char, kMaxBytes> text{};
  std::array<int32_t, kMaxIds> ids{};
  uint8_t num_ids = 0;

  bool holds(uint64_t identity, std::string_view word) const {
    return owner == identity && size_bytes == word.size() && std::memcmp(text.data(), word.data(), word.size()) == 0;
  }
};
constexpr size_t kCacheSlots = 1 << 15;

CachedWord& cached_word(uint64_t identity, std::string_view word) {
  thread_local std::vector<CachedWord> cache(kCacheSlots);
  return cache[XXH3_64bits_withSeed(word.data(), word.size(), identity) & (kCacheSlots - 1)];
}

uint64_t next_identity() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges) {
  shift_ = 63;
  while ((size_t{1} << (64 - shift_)) < merges.size() * 2 + 2) --shift_;
  mask_ = (size_t{1} << (64 - shift_)) - 1;
  entries_.assign(mask_ + 1, Entry{});
  for (const Merge& merge : merges) {
    const uint64_t pair = pair_of(merge.left, merge.right);
    size_t slot = slot_of(pair);
    while (entries_[slot].pair != UINT64_MAX && entries_[slot].pair != pair) slot = (slot + 1) & mask_;
    entries_[slot] = {pair, merge.rank, merge.result};
  }
}

// Symbols form a doubly linked list over their first positions. A heap holds every pair that may merge as rank << 32 |
// position, so that its least element is the next merge. Entries made stale by other merges stay in the heap and are
// recognized when they are popped.
struct Bpe::Scratch {
  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;  // -1 at the end, kRemoved for a symbol merged into the one before it
  };
  static constexpr int32_t kRemoved = -2;
  std::vector<Symbol> symbols;
  std::vector<uint64_t> queue;

  void add(int32_t id) {
    const auto position = static_cast<int32_t>(symbols.size());
    if (position > 0) symbols.back().next = position;
    symbols.push_back({id, position - 1, -1});
  }
};

Bpe::Bpe(Vocabulary vocabulary, const std::vector<Merge>& merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), merges_(merges), options_(std::move(options)), identity_(next_identity()) {
  for (const Merge& merge : merges) {
    if (static_cast<size_t>(merge.rank) >= results_.size()) results_.resize(static_cast<size_t>(merge.rank) + 1, -1);
    results_[merge.rank] = merge.result;
  }
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    byte_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
  }
  for (char32_t value = 0; value < short_ids_.size(); ++value) {
    std::string character;
    append_code_point(character, value);
    short_ids_[value] = vocabulary_.find(character);
  }
  if (options_.unknown_token) unknown_id_ = vocabulary_.find(*options_.unknown_token);
  splits_at_marks_ = never_merges_before_mark();
}

// True if no merge joins a mark to another character before it. Then a text can be split before each mark that follows
// another character: the parts merge as they do in the whole, and most of them are short and cached.
bool Bpe::never_merges_before_mark() const {
  if (options_.ignores_merges || vocabulary_.find(kSpaceMark) < 0) return false;
  return std::none_of(results_.begin(), results_.end(), [&](int32_t id) {
    std::string_view token = id < 0 ? std::string_view() : vocabulary_.token(id);
    while (token.starts_with(kSpaceMark)) token.remove_prefix(kSpaceMark.size());
    return token.find(kSpaceMark) != std::string_view::npos;
  });
}

int32_t Bpe::character_id(std::string_view word, size_t at, size_t size_bytes) const {
  if (size_bytes <= 2) return short_ids_[code_point_at(word, at).value];
  return vocabulary_.find(word.substr(at, size_bytes));
}

void Bpe::start(std::string_view word, Scratch& scratch) const {
  scratch.symbols.clear();
  scratch.queue.clear();
  bool has_pending_unknown = false;
  const auto add_pending = [&] {
    if (has_pending_unknown) scratch.add(unknown_id_);
    has_pending_unknown = false;
  };
  for (size_t at = 0; at < word.size();) {
    const size_t size_bytes = code_point_at(word, at).size_bytes;
    const std::string_view character = word.substr(at, size_bytes);
    at += size_bytes;
    const int32_t id = character_id(character, 0, size_bytes);
    if (id >= 0) {
      add_pending();
      scratch.add(id);
      continue;
    }
    const auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (options_.falls_back_to_bytes &&
        std::all_of(character.begin(), character.end(), [&](char byte) { return byte_id(byte) >= 0; })) {
      // As in the reference, byte tokens are added before an unknown character that is still pending.
      for (const char byte : character) scratch.add(byte_id(byte));
      continue;
    }
    if (!options_.unknown_token) continue;
    if (unknown_id_ < 0) {
      throw_error<DataError>("text: '{}' is no token, and neither is the unk_token '{}'", character,
                             *options_.unknown_token);
    }
    if (!options_.fuses_unknown) add_pending();
    has_pending_unknown = true;
  }
  add_pending();
}

void Bpe::merge(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<uint64_t>& queue = scratch.queue;
  const auto entry_of = [](const MergeTable::Entry& merge, size_t position) {
    return uint64_t{static_cast<uint32_t>(merge.rank)} << 32 | position;
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    const MergeTable::Entry* found = merges_.find(symbols[i].id, symbols[i + 1].id);
    if (found != nullptr) queue.push_back(entry_of(*found, i));
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto consider = [&](int32_t position) {
    const Scratch::Symbol& left = symbols[position];
    const MergeTable::Entry* found = merges_.find(left.id, symbols[left.next].id);
    if (found == nullptr) return;
    queue.push_back(entry_of(*found, position));
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  while (!queue.empty()) {
    const uint64_t top = queue.front();
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    queue.pop_back();
    const auto position = static_cast<int32_t>(top & UINT32_MAX);
    Scratch::Symbol& left = symbols[position];
    if (left.next < 0) continue;
    Scratch::Symbol& right = symbols[left.next];
    const int32_t result = results_[top >> 32];
    const MergeTable::Entry* current = merges_.find(left.id, right.id);
    if (current == nullptr || current->result != result) continue;
    left.id = result;
    left.next = right.next;
    right.next = Scratch::kRemoved;
    if (left.next >= 0) symbols[left.next].previous = position;
    if (left.previous >= 0) consider(left.previous);
    if (left.next >= 0) consider(position);
  }
}

void Bpe::encode_uncached(std::string_view word, std::vector<int32_t>& ids) const {
  if (options_.ignores_merges) {
    const int32_t id = vocabulary_.find(word);
    if (id >= 0) return ids.push_back(id);
  }
  if (word.size() >= kMaxWordBytes) {
    throw_error<DataError>("text: a word of {} bytes, at most {} are allowed", word.size(), kMaxWordBytes - 1);
  }
  // Memory for a long word is released after use.
  constexpr size_t kKeptWordBytes = 1 << 16;
  thread_local Scratch kept;
  Scratch own;
  Scratch& scratch = word.size() <= kKeptWordBytes ? kept : own;
  start(word, scratch);
  merge(scratch);
  for (const Scratch::Symbol& symbol : scratch.symbols) {
    if (symbol.next != Scratch::kRemoved) ids.push_back(symbol.id);
  }
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (!splits_at_marks_ || word.size() <= CachedWord::kMaxBytes) return encode_part(word, ids);
  size_t begin = 0;
  for (size_t at = word.find(kSpaceMark, 1); at != std::string_view::npos;
       at = word.find(kSpaceMark, at + kSpaceMark.size())) {
    if (word.substr(0, at).ends_with(kSpaceMark)) continue;
    encode_part(word.substr(begin, at - begin), ids);
    begin = at;
  }
  encode_part(word.substr(begin), ids);
}

void Bpe::encode_part(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  if (word.size() > CachedWord::kMaxBytes) return encode_uncached(word, ids);
  CachedWord& cached = cached_word(identity_, word);
  if (cached.holds(identity_, word)) {
    ids.insert(ids.end(), cached.ids.begin(), cached.ids.begin() + cached.num_ids);
    return;
  }
  const size_t begin = ids.size();
  encode_uncached(word, ids);
  const size_t count = ids.size() - begin;
  if (count > CachedWord::kMaxIds) return;
  cached.owner = identity_;
  cached.size_bytes = static_cast<uint8_t>(word.size());
  std::copy(word.begin(), word.end(), cached.text.begin());
  std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(begin), count, cached.ids.begin());
  cached.num_ids = static_cast<uint8_t>(count);
}

}  // namespace plumb
