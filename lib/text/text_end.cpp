#include "lib/text/text_end.hpp"

#include <algorithm>

#include "lib/base/check.hpp"

namespace plumb {

bool is_blank(std::string_view text) { return text.find_first_not_of(" \n\r\t") == std::string_view::npos; }

MarkedText prefix_of(const MarkedText& marked, size_t num_bytes) {
  MarkedText prefix{marked.text.substr(0, num_bytes), {}};
  for (const ByteRange& range : marked.user_ranges) {
    if (range.begin < num_bytes) prefix.user_ranges.push_back({range.begin, std::min(range.end, num_bytes)});
  }
  return prefix;
}

MarkedText with_eos(const MarkedText& marked, size_t prompt_bytes, const std::string& eos) {
  if (eos.empty()) {
    throw UsageError(
        "tokenizer_config.json: expected an eos_token, got none; without it the model never learns to stop");
  }
  if (!std::string_view(marked.text).substr(prompt_bytes).ends_with(eos))
    return {marked.text + eos, marked.user_ranges};
  MarkedText ended = prefix_of(marked, marked.text.size() - eos.size());
  ended.text = marked.text;
  return ended;
}

std::optional<size_t> find_final_end(std::span<const int32_t> token_ids, const Tokenizer& tokenizer,
                                     std::optional<int32_t> turn_end) {
  const std::optional<int32_t> eos = tokenizer.eos_id();
  if (!eos && !turn_end) return std::nullopt;
  constexpr size_t kMaxSpaceTokens = 4;
  for (size_t back = 1; back <= std::min(token_ids.size(), kMaxSpaceTokens + 1); ++back) {
    const size_t at = token_ids.size() - back;
    if (token_ids[at] == eos || token_ids[at] == turn_end) return at;
    if (!is_blank(tokenizer.decode(token_ids.subspan(at, 1)))) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace plumb
