#include "lib/text/token_notes.hpp"

namespace plumb {

TokenNotes find_token_notes(const MarkedText& text, std::span<const int32_t> token_ids, const Tokenizer& tokenizer) {
  TokenNotes notes;
  for (const ByteRange& range : text.user_ranges) {
    const std::string_view own = std::string_view(text.text).substr(range.begin, range.end - range.begin);
    const std::vector<ByteRange> spellings = tokenizer.find_special_spellings(own);
    if (spellings.empty()) continue;
    notes.spelled_control_token = own.substr(spellings[0].begin, spellings[0].end - spellings[0].begin);
    break;
  }
  const std::optional<int32_t> bos = tokenizer.bos_id();
  notes.has_second_bos = bos && token_ids.size() > 1 && token_ids[0] == *bos && token_ids[1] == *bos;
  return notes;
}

}  // namespace plumb
