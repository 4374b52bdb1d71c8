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

constexpr size_t kContextTokens = 8;

}  // namespace

std::string completion_text(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                            std::span<const int32_t> completion) {
  const auto context = prompt.last(std::min(prompt.size(), kContextTokens));
  std::vector<int32_t> ids(context.begin(), context.end());
  const std::string before = tokenizer.decode(ids, /*skips_special_tokens=*/true);
  ids.insert(ids.end(), completion.begin(), completion.end());
  const std::string all = tokenizer.decode(ids, /*skips_special_tokens=*/true);
  // if the prompt ends within a character, its text is no prefix of the whole
  return replace_invalid_utf8(all.starts_with(before) ? all.substr(before.size()) : tokenizer.decode(completion, true));
}

AnswerEncoder::AnswerEncoder(const std::string& model_directory, PromptForm form, const DataOptions& data)
    : tokenizer_(load_tokenizer({model_directory, "", "", data.tokenizer_behavior})),
      format_(pair_format(form)),
      template_(form == PromptForm::kText
                    ? choose_template(format_, tokenizer_)
                    : choose_template(format_, tokenizer_, data.chat_template, data.chat_template_kwargs)) {
  options_.max_length = 0;
  options_.parses_special_tokens = data.parse_special_tokens;
}

std::vector<int32_t> AnswerEncoder::encode(const RowPrompt& prompt, const std::string& answer, bool has_end) const {
  const auto encode_pair = [&](const std::string& chosen, const std::string& rejected) {
    nlohmann::ordered_json row = prompt.columns;
    row["chosen"] = prompt.answer_cell(chosen);
    row["rejected"] = prompt.answer_cell(rejected);
    const std::string where = fmt::format("an answer to row {}", prompt.source_row);
    const PairText pair = render_pair(row, format_, template_ ? &*template_ : nullptr, options_, where);
    return tokenize_pair(pair, tokenizer_, options_);  // not truncated
  };
  std::vector<int32_t> ids = encode_pair(answer, answer).chosen;
  if (has_end) return ids;
  // what the texts of two answers without a common letter end with comes after an answer
  const auto pair = encode_pair("a", "b");
  const auto [a, b] =
      std::mismatch(pair.chosen.rbegin(), pair.chosen.rend(), pair.rejected.rbegin(), pair.rejected.rend());
  for (auto end = pair.chosen.rbegin(); end != a && ids.size() > 1 && ids.back() == *end; ++end) ids.pop_back();
  return ids;
}

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
      texts.push_back(completion_text(*tokenizer, ids[i], completion));
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
  std::optional<AnswerEncoder> encoder;
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
