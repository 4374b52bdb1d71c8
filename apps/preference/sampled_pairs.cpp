#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "apps/models/model_setup.hpp"
#include "apps/preference/completions.hpp"
#include "apps/preference/pair_files.hpp"
#include "apps/preference/pairs.hpp"
#include "io/dataset/content_hash.hpp"
#include "io/file/json_lines_writer.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

/// The distinct answers to one prompt, without empty ones.
std::vector<std::string> different_answers(const std::vector<std::string>& answers) {
  std::vector<std::string> different;
  std::set<std::string> seen;
  for (const std::string& answer : answers)
    if (!answer.empty() && seen.insert(answer).second) different.push_back(answer);
  return different;
}

/// Rank 0 only: the first answer with the highest and the first with the lowest reward; none if all rewards are equal.
std::optional<ordered_json> make_pair(const RowPrompt& prompt, const std::vector<std::string>& answers,
                                      const std::vector<double>& rewards) {
  if (answers.size() < 2) return std::nullopt;
  const auto best = std::max_element(rewards.begin(), rewards.end());
  const auto worst = std::min_element(rewards.begin(), rewards.end());
  if (*best == *worst) return std::nullopt;
  const auto cell = [&](auto reward) { return prompt.answer_cell(answers[reward - rewards.begin()]); };
  ordered_json row = prompt.columns;
  row.update({{"chosen", cell(best)},
              {"rejected", cell(worst)},
              {"source_row", prompt.source_row},
              {"chosen_reward", *best},
              {"rejected_reward", *worst}});
  return row;
}

/// Collective: samples completions, scores them, and writes the pairs.
PairFiles sample_and_score(const Communicator& comm, const PairSetting& o, const std::string& prefix) {
  RowPrompts prompts;
  comm.run_agreed([&] {
    const ModelConfig config = HfModel(o.start.model, {.head = HeadKind::kLanguageModel}).config();
    prompts = read_row_prompts(o.data.data, o.data, load_tokenizer(o.start.tokenizer()), config, /*max_rows=*/-1);
    if (prompts.prompts.empty())
      throw_error<DataError>("--pairs sampled: expected prompts, got none: {} of {} rows ask nothing, {} are too long",
                             prompts.num_empty, prompts.num_rows, prompts.num_too_long);
  });
  const DpoStageOptions& dpo = o.dpo;
  Answers answers = answer_prompts(comm, o.start, prompts,
                                   {.num_answers = dpo.num_generations,
                                    .max_new_tokens = dpo.max_completion_length,
                                    .sampling = {dpo.temperature, dpo.top_k, dpo.top_p},
                                    .seed = static_cast<uint64_t>(o.seed),
                                    .dtype = o.dtype,
                                    .chat_template = o.data.chat_template});
  for (std::vector<std::string>& texts : answers.texts) {
    texts = different_answers(texts);
    if (texts.size() < 2) texts.clear();  // no pair, so nothing to score
  }
  RewardModel reward_model(comm, dpo.reward_model, scalar_type(o.dtype));
  const std::vector<std::vector<double>> rewards = score_answers(comm, reward_model, prompts, answers.texts, o.data);
  PairFiles made;
  comm.run_on_rank0([&] {
    const std::string name = prefix + ".jsonl";
    JsonLinesWriter writer(fmt::format("{}/{}", o.directory, name));
    double margin = 0;
    for (size_t i = 0; i < prompts.prompts.size(); ++i)
      if (const auto pair = make_pair(prompts.prompts[i], answers.texts[i], rewards[i])) {
        writer.append(*pair);
        margin += pair->at("chosen_reward").get<double>() - pair->at("rejected_reward").get<double>();
      }
    const int64_t num_prompts = std::ssize(prompts.prompts), num_pairs = writer.num_lines();
    if (num_pairs == 0)
      throw_error<DataError>(
          "--pairs sampled: expected different completions, got {} prompts whose completions are all equal or empty; "
          "raise --temperature or --num_generations",
          num_prompts);
    writer.finish();
    made.names = {name};
    made.counts = {{"form", name_of(prompts.prompts[0].form)},
                   {"rows", prompts.num_rows},
                   {"empty", prompts.num_empty},
                   {"too_long", prompts.num_too_long},
                   {"completions", num_prompts * dpo.num_generations},
                   {"cut_off", answers.num_cut_off},
                   {"no_pair", num_prompts - num_pairs},
                   {"pairs", num_pairs},
                   {"margin", margin / static_cast<double>(num_pairs)}};
  });
  return made;
}

void note(int64_t max_completion_length, const json& counts, StageNotes& notes) {
  const auto count = [&](const char* key) { return counts.at(key).get<int64_t>(); };
  notes.add_fact("pairs sampled", counts.at("pairs"));
  notes.add_fact("mean reward margin of sampled pairs", counts.at("margin"));
  notes.add_fact("prompts whose completions are all equal or empty", counts.at("no_pair"));
  if (count("empty") + count("too_long") > 0)
    notes.add_warning(fmt::format("of {} rows, {} ask nothing and {} leave no place for an answer; they are left out",
                                  count("rows"), count("empty"), count("too_long")));
  if (count("cut_off") > 0)
    notes.add_warning(fmt::format("{} of {} sampled completions did not end within --max_completion_length {}",
                                  count("cut_off"), count("completions"), max_completion_length));
}

}  // namespace

DataOptions sample_pairs(const Communicator& comm, const PairSetting& o, StageNotes& notes) {
  std::vector<std::string> tokenizer, reward_tokenizer;
  comm.run_agreed([&] {
    tokenizer = tokenizer_files(o.start.tokenizer());
    reward_tokenizer = tokenizer_files(o.dpo.reward_model);
  });
  json made_from = {{"version", 3},
                    {"files", describe_files(comm, o.data.data)},
                    {"model", model_hash(comm, o.start.model)},
                    {"tokenizer", describe_files(comm, tokenizer)},
                    {"reward_model", model_hash(comm, o.dpo.reward_model)},
                    {"reward_tokenizer", describe_files(comm, reward_tokenizer)},
                    {"columns", o.data.columns},
                    {"chat_template", o.data.chat_template},
                    {"eos_token", o.data.eos_token},
                    {"parse_special_tokens", o.data.parse_special_tokens},
                    {"max_length", o.data.max_length},
                    {"dtype", name_of(o.dtype)},
                    {"seed", o.seed},
                    {"num_generations", o.dpo.num_generations},
                    {"max_completion_length", o.dpo.max_completion_length},
                    {"temperature", o.dpo.temperature},
                    {"top_k", o.dpo.top_k},
                    {"top_p", o.dpo.top_p}};
  if (!o.start.adapter.empty()) made_from["adapter"] = adapter_hash(comm, o.start.adapter);
  if (o.start.is_quantized) made_from["quantize"] = name_of(Quantization::kNf4);
  const PairFiles made = make_pair_files_once(comm, o.directory, "sampled", made_from, [&](const std::string& prefix) {
    return sample_and_score(comm, o, prefix);
  });
  note(o.dpo.max_completion_length, made.counts, notes);
  DataOptions sampled = o.data;
  sampled.data = {o.directory + "/" + made.names.at(0)};
  sampled.files_per_item = {1};
  sampled.columns.clear();
  if (made.counts.at("form").get<std::string>() == name_of(PromptForm::kText))
    sampled.chat_template.clear();  // nothing to render
  return sampled;
}

}  // namespace plumb
