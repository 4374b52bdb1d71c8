// Rows of JSON Lines or of a JSON array, from the file to tokens and masks. The first byte chooses the format, the
// second a template, the third whether control tokens in the data are parsed. Rows are tokenized as SFT rows,
// preference rows as pairs.
#include <algorithm>
#include <vector>

#include "io/records/record_file.hpp"
#include "lib/text/example.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"
#include "tests/lib/tokenizer/tokenizer_fixture.hpp"

namespace plumb::fuzz {

namespace {

constexpr int64_t kMaxLength = 64;

const Tokenizer& tokenizer() {
  static const Tokenizer instance = Tokenizer::from_json(
      byte_level_fixture().dump(), Json{{"bos_token", "<|bos|>"}, {"eos_token", "<|end|>"}}.dump());
  return instance;
}

int64_t num_special(const std::vector<int32_t>& ids) {
  return std::count_if(ids.begin(), ids.end(), [](int32_t id) { return tokenizer().is_special(id); });
}

void tokenize_as_sft(const Record& record, const RowFormat& format, const RowTemplate* row_template, bool parses,
                     const std::string& where) {
  const SftOptions options{kMaxLength, std::nullopt, false, parses};
  const SftExample example =
      tokenize_sft(render_sft(record.object, format, row_template, options, where), tokenizer(), options);
  require(example.loss_mask.size() == example.token_ids.size(), "every token has a mask");
  require(std::ssize(example.token_ids) <= kMaxLength, "a row is cut off");
  // in plain text only the end of the text is added
  const bool is_plain = row_template == nullptr && !parses;
  require(!is_plain || num_special(example.token_ids) <= 1, "a user's text holds no control token");
}

void tokenize_as_pair(const Record& record, const RowFormat& format, const RowTemplate* row_template, bool parses,
                      const std::string& where) {
  const PairOptions options{kMaxLength, false, parses};
  const PairExample pair =
      tokenize_pair(render_pair(record.object, format, row_template, options, where), tokenizer(), options);
  if (pair.drop_reason != PairDropReason::kNone) return;
  for (const std::vector<int32_t>* ids : {&pair.chosen, &pair.rejected}) {
    require(std::ssize(*ids) <= kMaxLength, "a text is cut off");
    require(pair.prompt_length >= 0 && pair.prompt_length < std::ssize(*ids), "a text continues after the prompt");
    require(row_template != nullptr || parses || num_special(*ids) <= 1, "a user's text holds no control token");
  }
  require(std::equal(pair.chosen.begin(), pair.chosen.begin() + pair.prompt_length, pair.rejected.begin()),
          "both texts begin with the prompt");
}

}  // namespace

bool accepts(std::string_view input) {
  const bool is_array = take_choice(input, 2) == 1;
  const size_t choice = take_choice(input, template_names().size() + 1);
  const bool parses = take_choice(input, 2) == 1;
  const std::string name = choice == 0 ? "" : template_names()[choice - 1];
  const std::string path = input_directory().write(is_array ? "input.json" : "input.jsonl", input);
  return is_accepted([&] {
    RecordReader reader(path, index_records(path));
    std::optional<RowFormat> format;
    std::optional<RowTemplate> row_template;
    while (const std::optional<Record> record = reader.next()) {
      const std::string where = reader.where(*record);
      if (!format) {
        format = find_row_format(record->object, {}, where);
        row_template = choose_template(*format, tokenizer(), name);
      }
      const RowTemplate* used = row_template ? &*row_template : nullptr;
      const auto tokenize = format->shape == RowShape::kPreference ? tokenize_as_pair : tokenize_as_sft;
      tokenize(*record, *format, used, parses, where);
    }
  });
}

}  // namespace plumb::fuzz
