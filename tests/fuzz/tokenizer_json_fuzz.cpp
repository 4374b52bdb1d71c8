// tokenizer.json and, after a record separator, tokenizer_config.json. An accepted tokenizer encodes and decodes a few
// texts within its limits of time and size.
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

bool accepts(std::string_view input) {
  constexpr std::string_view kTexts[] = {"", "hello ab", " \n\t12'll <s></s>", "e\u0301\u6f22\U0001F642\u00df<|end|>"};
  const std::string_view json = take_part(input);
  std::optional<Tokenizer> tokenizer;
  if (!is_accepted([&] { tokenizer = Tokenizer::from_json(json, input); })) return false;
  require(tokenizer->vocab_size() >= 0 && tokenizer->vocab_size() <= 1 << 21, "ids are bounded");
  for (const std::optional<int32_t> id : {tokenizer->bos_id(), tokenizer->eos_id(), tokenizer->pad_id()})
    require(!id || (*id >= 0 && *id < tokenizer->vocab_size()), "tokens with a role have ids");
  for (const std::string_view text : kTexts) {
    std::vector<int32_t> ids;
    if (!is_accepted([&] { ids = tokenizer->encode(text); })) continue;
    for (const int32_t id : ids) require(id >= 0 && id < tokenizer->vocab_size(), "ids are of the vocabulary");
    is_accepted([&] { tokenizer->decode(ids); });
    is_accepted([&] { tokenizer->encode(MarkedText{std::string(text), {{0, text.size()}}}, false); });
  }
  return true;
}

}  // namespace plumb::fuzz
