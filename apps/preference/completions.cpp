#include "apps/preference/completions.hpp"

#include <algorithm>
#include <optional>
#include <span>

#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/models/shared_decoder.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

namespace {

constexpr int64_t kTextsPerMicroBatch = 8;  // not an option: rewards must not depend on options

constexpr size_t kContextTokens = 8;

/// The text of a completion. It is decoded after the last tokens of the prompt, because a tokenizer may drop a space at
/// the start of a text. Control tokens are left out; bytes that are not valid UTF-8 become U+FFFD.
std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> prompt, const Completion& completion) {
  const auto context = prompt.last(std::min(prompt.size(), kContextTokens));
  std::vector<int32_t> ids(context.begin(), context.end());
  const std::string before = tokenizer.decode(ids, /*skips_special_tokens=*/true);
  ids.insert(ids.end(), completion.begin(), completion.end());
  const std::string all = tokenizer.decode(ids, /*skips_special_tokens=*/true);
  // if the prompt ends within a character, its text is no prefix of the whole
  return replace_invalid_utf8(all.starts_with(before) ? all.substr(before.size()) : tokenizer.decode(completion, true));
}

/// Token ids of whole texts, each a prompt and an answer.
class TextEncoder {
 public:
  TextEncoder(const std::string& model_directory, PromptForm form, const DataOptions& data)
      : tokenizer_(load_tokenizer(model_directory)),
        format_(pair_format(form)),
        template_(choose_template(format_, tokenizer_, form == PromptForm::kText ? "" : data.chat_template)) {
    options_.max_length = 0;
    options_.parses_special_tokens = data.parse_special_tokens;
  }

  std::vector<int32_t> encode(const RowPrompt& prompt, const std::string& answer) const {
    const nlohmann::ordered_json cell = prompt.answer_cell(answer);
    nlohmann::ordered_json row = prompt.columns;
    row["chosen"] = row["rejected"] = cell;
    const std::string where = fmt::format("an answer to row {}", prompt.source_row);
    const PairText pair = render_pair(row, format_, template_ ? &*template_ : nullptr, options_, where);
    return tokenize_pair(pair, tokenizer_, options_)
        .chosen;  // not truncated, even though both texts of the pair are equal
  }

 private:
  Tokenizer tokenizer_;
  RowFormat format_;
  std::optional<RowTemplate> template_;
  PairOptions options_;
};

}  // namespace

Answers answer_prompts(const Communicator& comm, const ModelSource& model, const RowPrompts& prompts,
                       const AnswerOptions& o) {
  std::optional<Tokenizer> tokenizer;
  comm.run_agreed([&] { tokenizer.emplace(load_tokenizer(model.tokenizer())); });
  SharedDecoder decoder(comm, model, scalar_type(o.dtype));
  GenerateOptions options{o.max_new_tokens, {}, o.sampling, o.seed, tokenizer->vocab_size()};
  comm.run_agreed(
      [&] { options.stop_ids = end_ids(model.tokenizer(), decoder.config(), *tokenizer, o.chat_template); });
  const std::vector<std::vector<int32_t>> ids = prompts.token_ids();
  const auto completions = sample_completions(comm, decoder.decoder(), ids, o.num_answers, options);
  Answers answers;
  for (size_t i = 0; i < ids.size(); ++i) {
    std::vector<std::string>& texts = answers.texts.emplace_back();
    for (const Completion& completion : completions[i]) {
      texts.push_back(decode(*tokenizer, ids[i], completion));
      answers.num_cut_off += std::ssize(completion) >= o.max_new_tokens ? 1 : 0;
    }
  }
  return answers;
}

std::vector<std::vector<double>> score_answers(const Communicator& comm, RewardModel& reward_model,
                                               const RowPrompts& prompts,
                                               const std::vector<std::vector<std::string>>& answers,
                                               const DataOptions& data) {
  struct Place {
    size_t prompt, answer;
  };
  std::vector<Place> places;
  for (size_t prompt = 0; prompt < answers.size(); ++prompt)
    for (size_t answer = 0; answer < answers[prompt].size(); ++answer) places.push_back({prompt, answer});
  std::optional<TextEncoder> encoder;
  if (!places.empty())
    comm.run_agreed([&] { encoder.emplace(reward_model.directory(), prompts.prompts[0].form, data); });
  const int64_t vocab_size = reward_model.config().vocab_size;
  const std::vector<double> rewards = reward_model.score(std::ssize(places), kTextsPerMicroBatch, [&](int64_t i) {
    const Place place = places[i];
    std::vector<int32_t> ids = encoder->encode(prompts.prompts[place.prompt], answers[place.prompt][place.answer]);
    for (const int32_t id : ids)
      if (id >= vocab_size)
        throw_error<DataError>("{}: expected token ids below {}, the rows of the embedding, got {}",
                               reward_model.directory(), vocab_size, id);
    return ids;
  });
  std::vector<std::vector<double>> by_prompt(answers.size());
  for (size_t i = 0; i < places.size(); ++i) by_prompt[places[i].prompt].push_back(rewards[i]);
  return by_prompt;
}

}  // namespace plumb
