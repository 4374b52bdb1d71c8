#include "lib/tokenizer/added_tokens.hpp"

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "lib/tokenizer/pattern.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxTokenBytes = 1024;

bool is_word_character(std::string_view character) {
  static const Pattern pattern = Pattern::regex(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200C\u200D])", "word characters");
  std::vector<ByteRange> matches;
  pattern.find_all(character, matches);
  return !matches.empty();
}

bool is_whole_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    const size_t before = code_point_before(text, begin);
    if (is_word_character(text.substr(before, begin - before))) return false;
  }
  return end == text.size() || !is_word_character(text.substr(end, code_point_at(text, end).size_bytes));
}

size_t white_space_before(std::string_view text, size_t end) {
  while (end > 0) {
    const size_t before = code_point_before(text, end);
    if (!is_white_space(code_point_at(text, before).value)) break;
    end = before;
  }
  return end;
}

size_t white_space_after(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const CodePoint point = code_point_at(text, begin);
    if (!is_white_space(point.value)) break;
    begin += point.size_bytes;
  }
  return begin;
}

}  // namespace

void AddedTokens::put(int32_t id, AddedToken token) {
  ids_[token.content] = id;
  by_id_[id] = std::move(token);
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

int32_t AddedTokens::id_of(std::string_view content) const {
  const auto found = ids_.find(content);
  return found == ids_.end() ? -1 : found->second;
}

void AddedTokenMatcher::add(std::string_view spelling, int32_t id, const AddedToken& token) {
  if (spelling.empty()) return;
  if (spelling.size() > kMaxTokenBytes) {
    throw_error<DataError>("added token {}: {} bytes long, at most {} are allowed", id, spelling.size(),
                           kMaxTokenBytes);
  }
  int32_t node = 0;
  for (const char character : spelling) {
    const auto byte = static_cast<unsigned char>(character);
    auto& children = nodes_[node].children;
    const auto child = std::find_if(children.begin(), children.end(), [&](const auto& c) { return c.first == byte; });
    if (child != children.end()) {
      node = child->second;
      continue;
    }
    const auto added = static_cast<int32_t>(nodes_.size());
    children.emplace_back(byte, added);
    if (node == 0) roots_[byte] = added;
    nodes_.emplace_back();
    node = added;
  }
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back({id, token});
  has_special_ |= token.is_special;
}

AddedTokenMatcher::Found AddedTokenMatcher::longest_at(std::string_view text, size_t at,
                                                       const std::string* user_flags) const {
  Found found;
  bool touches_user = false;
  int32_t node = roots_[static_cast<unsigned char>(text[at])];
  for (size_t end = at; node >= 0;) {
    touches_user |= user_flags != nullptr && (*user_flags)[end] != '\0';
    ++end;
    const Node& here = nodes_[node];
    if (here.token >= 0) {
      const Entry& entry = tokens_[here.token];
      if (!(touches_user && entry.token.is_special)) found = {end, &entry};
    }
    if (end == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[end]);
    node = -1;
    for (const auto& [label, child] : here.children) {
      if (label == byte) node = child;
    }
  }
  return found;
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::split(std::string_view text,
                                                              const std::string* user_flags) const {
  std::vector<Part> parts;
  size_t text_begin = 0;
  for (size_t at = 0; !tokens_.empty() && at < text.size();) {
    const Found found = longest_at(text, at, user_flags);
    if (found.entry == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = found.end;
    at = found.end;  // continue here even if the match is dropped or strips white space after it
    const AddedToken& token = found.entry->token;
    if (token.is_single_word && !is_whole_word(text, begin, end)) continue;
    if (token.strips_left) begin = std::max(white_space_before(text, begin), text_begin);
    if (token.strips_right) end = white_space_after(text, end);
    if (text_begin < begin) parts.push_back({{text_begin, begin}, -1});
    parts.push_back({{begin, end}, found.entry->id});
    text_begin = end;
  }
  if (text_begin < text.size()) parts.push_back({{text_begin, text.size()}, -1});
  return parts;
}

}  // namespace plumb
