// tokenizer.model: an accepted file encodes and decodes a few texts.
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

bool accepts(std::string_view input) {
  std::optional<Tokenizer> tokenizer;
  if (!is_accepted([&] { tokenizer = Tokenizer::from_sentencepiece(input); })) return false;
  for (const std::string_view text : {"", "hello ab", " \n\t12'll <s></s>", "e\u0301\u6f22\U0001F642"}) {
    std::vector<int32_t> ids;
    if (!is_accepted([&] { ids = tokenizer->encode(text); })) continue;
    for (const int32_t id : ids) require(id >= 0 && id < tokenizer->vocab_size(), "ids are of the vocabulary");
    is_accepted([&] { tokenizer->decode(ids); });
  }
  return true;
}

}  // namespace plumb::fuzz
