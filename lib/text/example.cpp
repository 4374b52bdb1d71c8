#include "lib/text/example.hpp"

#include <algorithm>
#include <optional>

#include "lib/base/check.hpp"
#include "lib/text/text_end.hpp"

namespace plumb {
namespace {

class Masker {
 public:
  Masker(const MarkedText& full, bool adds_special_tokens, const Tokenizer& tokenizer, SftExample& example)
      : full_(full), adds_special_tokens_(adds_special_tokens), tokenizer_(tokenizer), example_(example) {}

  /// The number of tokens of `prefix` tokenized alone, at most that of the whole text.
  size_t count_tokens(const MarkedText& prefix) {
    const std::vector<int32_t> ids = tokenizer_.encode(prefix, adds_special_tokens_);
    const std::vector<int32_t>& all = example_.token_ids;
    if (ids.size() > all.size() || !std::equal(ids.begin(), ids.end(), all.begin())) example_.prompt_is_prefix = false;
    return std::min(ids.size(), all.size());
  }

  /// Clears the loss mask outside the ranges. Tokens from max_tokens on are truncated later and not looked at.
  void keep(const std::vector<ByteRange>& ranges, size_t max_tokens) {
    std::vector<uint8_t> kept(example_.token_ids.size(), 0);
    for (const ByteRange& range : ranges) {
      const size_t begin = count_tokens(prefix_of(full_, range.begin));
      if (begin >= max_tokens) break;
      const size_t end =
          range.end == full_.text.size() ? kept.size() : std::max(begin, count_tokens(prefix_of(full_, range.end)));
      std::fill(kept.begin() + static_cast<std::ptrdiff_t>(begin), kept.begin() + static_cast<std::ptrdiff_t>(end), 1);
    }
    for (size_t i = 0; i < kept.size(); ++i) example_.loss_mask[i] &= kept[i];
  }

 private:
  const MarkedText& full_;
  bool adds_special_tokens_;
  const Tokenizer& tokenizer_;
  SftExample& example_;
};

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
  const size_t num_tokens = example.token_ids.size();
  const size_t max_tokens = options.max_length == 0 ? num_tokens : static_cast<size_t>(options.max_length);

  Masker masker(full, text.adds_special_tokens, tokenizer, example);
  if (trains_completion_only) {
    const size_t num_prompt_tokens = masker.count_tokens(*text.prompt);
    std::fill_n(example.loss_mask.begin(), num_prompt_tokens, uint8_t{0});
  }
  if (text.assistant_ranges) masker.keep(*text.assistant_ranges, max_tokens);

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
  const std::optional<size_t> final_eos = find_final_eos(example.token_ids, tokenizer);
  example.ends_in_trained_eos = final_eos && example.loss_mask[*final_eos] == 1;
  return example;
}

}  // namespace plumb
