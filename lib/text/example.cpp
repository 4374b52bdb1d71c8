#include "lib/text/example.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <string>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "lib/text/common_tokens.hpp"
#include "lib/text/text_end.hpp"
#include "lib/tokenizer/token_ranges.hpp"

namespace plumb {
namespace {

/// Finds the tokens that hold ranges of bytes of the text.
class TokenFinder {
 public:
  TokenFinder(const MarkedText& full, bool adds_special_tokens, const Tokenizer& tokenizer,
              std::span<const int32_t> token_ids)
      : full_(full),
        adds_special_tokens_(adds_special_tokens),
        tokenizer_(tokenizer),
        token_ids_(token_ids),
        ranges_(tokenizer.find_ranges(token_ids, full.text)) {}

  /// The token that holds the byte at `at`; where a normalizer rewrote the text, the first that is not wholly before
  /// it.
  size_t find(size_t at) const {
    if (ranges_) return token_at(*ranges_, at);
    return count_common_tokens(tokenizer_.encode(prefix_of(full_, at), adds_special_tokens_), token_ids_);
  }

 private:
  const MarkedText& full_;
  bool adds_special_tokens_;
  const Tokenizer& tokenizer_;
  std::span<const int32_t> token_ids_;
  std::optional<std::vector<ByteRange>> ranges_;
};

/// 1 for the tokens from that of the first character of a range to that of its last one.
std::vector<uint8_t> mask_of(const std::vector<ByteRange>& ranges, const std::string& text, const TokenFinder& finder,
                             size_t num_tokens) {
  std::vector<uint8_t> mask(num_tokens, 0);
  for (const ByteRange& range : ranges) {
    if (range.begin >= range.end) continue;
    const size_t begin = std::min(finder.find(range.begin), num_tokens);
    const size_t end = std::min(finder.find(code_point_before(text, range.end)) + 1, num_tokens);
    if (begin < end) std::fill(mask.begin() + begin, mask.begin() + end, uint8_t{1});
  }
  return mask;
}

}  // namespace

SftExample tokenize_sft(const SftText& text, const Tokenizer& tokenizer, const SftOptions& options) {
  const bool trains_completion_only = options.completion_only_loss.value_or(text.prompt.has_value());
  if (trains_completion_only && !text.prompt) {
    throw UsageError("completion_only_loss: expected rows with a prompt, got text or messages without one");
  }
  if (options.max_length < 0) {
    throw_error<UsageError>("max_length: expected a number of tokens, or 0 to keep all; got {}", options.max_length);
  }
  const size_t prompt_bytes = text.prompt ? std::min(text.prompt->text.size(), text.full.text.size()) : 0;
  const MarkedText full = text.appends_eos ? with_eos(text.full, prompt_bytes, tokenizer.eos_token()) : text.full;
  SftExample example;
  example.token_ids = tokenizer.encode(full, text.adds_special_tokens);
  example.loss_mask.assign(example.token_ids.size(), 1);
  example.notes = find_token_notes(full, example.token_ids, tokenizer);
  const size_t num_tokens = example.token_ids.size();
  const size_t max_tokens = options.max_length == 0 ? num_tokens : static_cast<size_t>(options.max_length);

  if (trains_completion_only) {
    const std::vector<int32_t> prompt = tokenizer.encode(*text.prompt, text.adds_special_tokens);
    const size_t num_prompt_tokens = count_common_tokens(prompt, example.token_ids);
    example.prompt_is_prefix = num_prompt_tokens == prompt.size();
    std::fill_n(example.loss_mask.begin(), num_prompt_tokens, uint8_t{0});
  }
  if (text.assistant_ranges || !text.untrained_ranges.empty()) {
    const TokenFinder finder(full, text.adds_special_tokens, tokenizer, example.token_ids);
    const auto apply = [&](const std::vector<ByteRange>& ranges, uint8_t value) {
      const std::vector<uint8_t> mask = mask_of(ranges, full.text, finder, num_tokens);
      for (size_t i = 0; i < num_tokens; ++i) example.loss_mask[i] &= mask[i] == value;
    };
    if (text.assistant_ranges) apply(*text.assistant_ranges, 1);
    apply(text.untrained_ranges, 0);
  }

  if (num_tokens > max_tokens) {
    example.token_ids.resize(max_tokens);
    example.loss_mask.resize(max_tokens);
    example.is_truncated = true;
  }
  // the first token is never predicted
  const bool is_trained =
      !example.token_ids.empty() &&
      std::find(example.loss_mask.begin() + 1, example.loss_mask.end(), 1) != example.loss_mask.end();
  if (!is_trained) example.drop_reason = example.token_ids.empty() ? DropReason::kEmpty : DropReason::kNothingToLearn;
  const std::optional<size_t> final_eos = find_final_end(example.token_ids, tokenizer, text.turn_end);
  example.ends_in_trained_eos = final_eos && example.loss_mask[*final_eos] == 1;
  return example;
}

}  // namespace plumb
