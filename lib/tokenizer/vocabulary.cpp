#include "lib/tokenizer/vocabulary.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "lib/base/check.hpp"

namespace plumb {

size_t Vocabulary::slot_of(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = XXH3_64bits(token.data(), token.size()) & mask;
  while (slots_[slot] >= 0 && this->token(slots_[slot]) != token) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::grow() {
  std::vector<int32_t> old(std::max<size_t>(64, slots_.size() * 2), -1);
  old.swap(slots_);
  for (const int32_t id : old) {
    if (id >= 0) slots_[slot_of(token(id))] = id;
  }
}

void Vocabulary::add(std::string_view token, int32_t id, std::string_view where) {
  if (contains(id)) {
    throw_error<DataError>("{}: '{}' and '{}' have the same id {}", where, this->token(id), token, id);
  }
  if (text_.size() + token.size() >= kAbsent) throw_error<DataError>("{}: the tokens exceed 4 GiB", where);
  if ((count_ + 1) * 2 > slots_.size()) grow();
  const size_t slot = slot_of(token);
  if (slots_[slot] >= 0) {
    throw_error<DataError>("{}: '{}' has two ids, {} and {}", where, token, slots_[slot], id);
  }
  if (static_cast<size_t>(id) >= entries_.size()) entries_.resize(static_cast<size_t>(id) + 1);
  const auto begin = static_cast<uint32_t>(text_.size());
  text_ += token;
  entries_[id] = {begin, static_cast<uint32_t>(text_.size())};
  slots_[slot] = id;
  ++count_;
}

int32_t Vocabulary::find(std::string_view token) const { return slots_.empty() ? -1 : slots_[slot_of(token)]; }

bool Vocabulary::contains(int32_t id) const { return id >= 0 && id < size() && entries_[id].begin != kAbsent; }

std::string_view Vocabulary::token(int32_t id) const {
  if (!contains(id)) return {};
  const Entry entry = entries_[id];
  return std::string_view(text_).substr(entry.begin, entry.end - entry.begin);
}

}  // namespace plumb
