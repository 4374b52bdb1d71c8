#include "lib/tokenizer/text_stream.hpp"

#include <algorithm>

namespace plumb {

constexpr size_t kContextTokens = 8;
constexpr size_t kMaxTokensOfCharacter = 4;
constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

TextStream::TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt) : tokenizer_(tokenizer) {
  const auto context = prompt.last(std::min(prompt.size(), kContextTokens));
  token_ids_.assign(context.begin(), context.end());
  shown_ = token_ids_.size();
}

std::string TextStream::push(int32_t token) {
  token_ids_.push_back(token);
  const std::string text = pending();
  const bool may_be_incomplete = token_ids_.size() - shown_ < kMaxTokensOfCharacter;
  if (text.empty() || (text.ends_with(kReplacementCharacter) && may_be_incomplete)) return "";
  begin_ = shown_;
  shown_ = token_ids_.size();
  return text;
}

std::string TextStream::pending() const {
  const std::span<const int32_t> ids(token_ids_);
  const std::string before = tokenizer_.decode(ids.subspan(begin_, shown_ - begin_), true);
  const std::string all = tokenizer_.decode(ids.subspan(begin_), true);
  // invalid bytes may turn into other replacement characters once more bytes follow: never begin within a character
  size_t begin = std::min(before.size(), all.size());
  while (begin < all.size() && (static_cast<unsigned char>(all[begin]) & 0xC0) == 0x80) ++begin;
  return all.substr(begin);
}

}  // namespace plumb
