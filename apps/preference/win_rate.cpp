#include "apps/preference/win_rate.hpp"

#include <fmt/format.h>

#include "apps/models/model_setup.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxSamples = 12;

AnswerOptions greedy(const PairSetting& o) {
  return {.max_new_tokens = o.dpo.max_completion_length, .dtype = o.dtype, .chat_template = o.data.chat_template};
}

}  // namespace

WinRate::WinRate(const Communicator& comm, const PairSetting& o, const std::vector<std::string>& eval_data)
    : comm_(comm), setting_(o) {
  if (eval_data.empty() || o.dpo.reward_model.empty() || o.dpo.num_win_rate_prompts == 0) return;
  comm.run_agreed([&] {
    const ModelConfig config = HfModel(o.start.model, {.head = HeadKind::kLanguageModel}).config();
    prompts_ =
        read_row_prompts(eval_data, o.data, load_tokenizer(o.start.tokenizer()), config, o.dpo.num_win_rate_prompts);
  });
  if (!prompts_.prompts.empty()) before_ = answer_prompts(comm, o.start, prompts_, greedy(o));
  release_freed_memory();
}

void WinRate::add_to(StageNotes& notes, const ModelSource& trained) const {
  if (prompts_.num_rows == 0) return;
  if (const int64_t num_skipped = prompts_.num_empty + prompts_.num_too_long; num_skipped > 0)
    notes.add_warning(fmt::format("win rate: {} of {} prompts are empty or leave no place for an answer", num_skipped,
                                  prompts_.num_rows));
  const size_t num_prompts = prompts_.prompts.size();
  if (num_prompts == 0) return;
  const Answers after = answer_prompts(comm_, trained, prompts_, greedy(setting_));
  std::vector<std::vector<std::string>> texts;  // before and after of each prompt
  for (size_t i = 0; i < num_prompts; ++i) texts.push_back({before_.texts[i][0], after.texts[i][0]});
  RewardModel reward_model(comm_, setting_.dpo.reward_model, scalar_type(setting_.dtype));
  const std::vector<std::vector<double>> rewards = score_answers(comm_, reward_model, prompts_, texts, setting_.data);

  double wins = 0, sum_before = 0, sum_after = 0;
  for (size_t i = 0; i < num_prompts; ++i) {
    const double before = rewards[i][0], now = rewards[i][1];
    wins += texts[i][0] == texts[i][1] || now == before ? 0.5 : (now > before ? 1 : 0);
    sum_before += before;
    sum_after += now;
    if (i < kMaxSamples)
      notes.add_sample({{"prompt", prompts_.prompts[i].text()},
                        {"before", texts[i][0]},
                        {"after", texts[i][1]},
                        {"reward before", before},
                        {"reward after", now}});
  }
  const auto count = static_cast<double>(num_prompts);
  notes.add_fact("win rate of DPO over its start", wins / count);
  notes.add_fact("prompts of the win rate", num_prompts);
  notes.add_fact("mean reward before training", sum_before / count);
  notes.add_fact("mean reward after training", sum_after / count);
}

}  // namespace plumb
