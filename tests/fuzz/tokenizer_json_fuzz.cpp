// tokenizer.json and, each after a record separator, tokenizer_config.json, config.json, special_tokens_map.json and
// added_tokens.json, read as transformers 5 and 4 do. An accepted tokenizer encodes and decodes a few
// texts within its limits of time and size.
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

bool accepts(std::string_view input) {
  constexpr std::string_view kTexts[] = {"", "hello ab", " \n\t12'll <s></s>", "e\u0301\u6f22\U0001F642\u00df<|end|>"};
  TokenizerTexts files;
  for (std::string* part : {&files.tokenizer_json, &files.tokenizer_config, &files.model_config,
                            &files.special_tokens_map, &files.added_tokens})
    *part = take_part(input);
  std::optional<Tokenizer> tokenizer;
  is_accepted([&] { Tokenizer::from_texts(files, TokenizerBehavior::kTransformers4); });
  if (!is_accepted([&] { tokenizer = Tokenizer::from_texts(files); })) return false;
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
