#include "lib/text/show_tokens.hpp"

#include <algorithm>
#include <vector>

#include "lib/base/utf8.hpp"

namespace plumb {
namespace {

constexpr const char* kTrainedColor = "\x1b[32m";
constexpr const char* kControlColor = "\x1b[2m";
constexpr const char* kNoColor = "\x1b[0m";

/// Tokens that are shown alike: one control token, or text.
struct Run {
  size_t end_token = 0;
  ByteRange text;  // in the text of all tokens
  bool is_control = false;
  bool is_trained = false;
};

/// Where the text of the tokens after the first `num_tokens` begins in `all`, the text of all of them; what a token is
/// decoded to may depend on those before it.
size_t text_begin(const Tokenizer& tokenizer, std::span<const int32_t> token_ids, size_t num_tokens,
                  const std::string& all) {
  const std::string before = tokenizer.decode(token_ids.first(num_tokens));
  const size_t size = std::min(before.size(), all.size());
  const auto end = before.begin() + static_cast<std::ptrdiff_t>(size);
  auto at = static_cast<size_t>(std::mismatch(before.begin(), end, all.begin()).first - before.begin());
  while (at > 0 && at < all.size() && (static_cast<unsigned char>(all[at]) & 0xC0) == 0x80) --at;
  return at;
}

std::vector<Run> find_runs(const Tokenizer& tokenizer, std::span<const int32_t> token_ids,
                           std::span<const uint8_t> loss_mask, const std::string& all) {
  std::vector<Run> runs;
  for (size_t begin = 0; begin < token_ids.size();) {
    Run run{begin + 1, {runs.empty() ? 0 : runs.back().text.end, 0}};
    run.is_control = tokenizer.is_special(token_ids[begin]);
    run.is_trained = loss_mask[begin] != 0;
    const auto is_alike = [&](size_t at) {
      return !tokenizer.is_special(token_ids[at]) && (loss_mask[at] != 0) == run.is_trained;
    };
    while (!run.is_control && run.end_token < token_ids.size() && is_alike(run.end_token)) ++run.end_token;
    run.text.end = std::max(run.text.begin, text_begin(tokenizer, token_ids, run.end_token, all));
    begin = run.end_token;
    runs.push_back(run);
  }
  return runs;
}

/// Where a backslash shows that letters are text: in each stretch between control tokens.
std::vector<size_t> find_backslashes(const Tokenizer& tokenizer, const std::vector<Run>& runs, const std::string& all) {
  std::vector<size_t> backslashes;
  for (size_t first = 0; first < runs.size(); ++first) {
    if (runs[first].is_control) continue;
    size_t last = first;
    while (last + 1 < runs.size() && !runs[last + 1].is_control) ++last;
    const size_t begin = runs[first].text.begin;
    for (const ByteRange& letters :
         tokenizer.find_special_spellings(std::string_view(all).substr(begin, runs[last].text.end - begin))) {
      const size_t at = begin + letters.begin;
      backslashes.push_back(at + code_point_at(all, at).size_bytes);
    }
    first = last;
  }
  return backslashes;
}

}  // namespace

std::string show_tokens(const Tokenizer& tokenizer, std::span<const int32_t> token_ids,
                        std::span<const uint8_t> loss_mask, bool has_color) {
  const std::string all = tokenizer.decode(token_ids);
  const std::vector<Run> runs = find_runs(tokenizer, token_ids, loss_mask, all);
  const std::vector<size_t> backslashes = find_backslashes(tokenizer, runs, all);
  auto backslash = backslashes.begin();
  std::string shown;
  bool was_trained = false;
  for (const Run& run : runs) {
    if (run.is_trained != was_trained) shown += run.is_trained ? "[[" : "]]";
    was_trained = run.is_trained;
    if (has_color && run.is_control) shown += kControlColor;
    if (has_color && run.is_trained) shown += kTrainedColor;
    size_t at = run.text.begin;
    for (; backslash != backslashes.end() && *backslash < run.text.end; at = *backslash++) {
      shown += all.substr(at, *backslash - at) + "\\";
    }
    shown += all.substr(at, run.text.end - at);
    if (has_color && (run.is_control || run.is_trained)) shown += kNoColor;
  }
  return was_trained ? shown + "]]" : shown;
}

}  // namespace plumb
