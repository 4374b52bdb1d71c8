// Round trips of any text through a byte-level tokenizer and one with byte fallback.
#include <algorithm>
#include <vector>

#include "lib/base/utf8.hpp"
#include "lib/tokenizer/tokenizer.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/lib/tokenizer/tokenizer_fixture.hpp"

namespace plumb::fuzz {

namespace {

bool is_utf8(std::string_view text) {
  return is_accepted([&] { check_utf8(text, "text"); });
}

void check_byte_level(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  require(tokenizer.decode(ids) == text, "a text comes back");
  require(ids.size() <= text.size(), "a token has a byte");
  const std::vector<int32_t> of_user = tokenizer.encode(MarkedText{std::string(text), {{0, text.size()}}});
  require(tokenizer.decode(of_user) == text, "a user's text comes back");
  require(std::none_of(of_user.begin(), of_user.end(), [&](int32_t id) { return tokenizer.is_special(id); }),
          "a user's text holds no control token");
}

void check_fallback(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> of_user = tokenizer.encode(MarkedText{text, {{0, text.size()}}}, false);
  require(std::none_of(of_user.begin(), of_user.end(), [&](int32_t id) { return id == 1 || id == 2; }),
          "a user's text holds no control token");
  std::string normal = text;  // a space and its replacement character are equivalent
  for (size_t at = normal.find("▁"); at != std::string::npos; at = normal.find("▁", at)) normal.replace(at, 3, " ");
  require(text.empty() || tokenizer.decode(of_user) == normal, "a text comes back but for spaces");
}

}  // namespace

bool accepts(std::string_view input) {
  static const Tokenizer byte_level = Tokenizer::from_json(byte_level_fixture().dump());
  static const Tokenizer fallback = Tokenizer::from_json(llama_fixture().dump());
  if (!is_utf8(input)) {
    require(!is_accepted([&] { byte_level.encode(input); }), "what is not UTF-8 is refused");
    return false;
  }
  check_byte_level(byte_level, input);
  check_fallback(fallback, std::string(input));
  return true;
}

}  // namespace plumb::fuzz
