// A model's answers to prompts, and their rewards. Neither depends on the number of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/models/model_setup.hpp"
#include "apps/models/reward_model.hpp"
#include "apps/preference/row_prompts.hpp"
#include "lib/model/sampling.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"
#include "lib/tokenizer/tokenizer.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Texts that a reward model scores together. Not an option: rewards must not depend on options.
inline constexpr int64_t kTextsPerMicroBatch = 8;

struct AnswerOptions {
  int64_t num_answers = 1;  // per prompt
  int64_t max_new_tokens = 256;
  SamplingOptions sampling = {};
  uint64_t seed = 42;
  Precision dtype = Precision::kFloat32;
  std::string chat_template = {};  // that rendered the prompts: an answer ends with the assistant's turn
};

struct Answers {
  std::vector<std::vector<std::string>> texts;  // [prompt][answer]
  int64_t num_cut_off = 0;                      // truncated by max_new_tokens
};

/// Collective: answers to prompts that were rendered for this model. The model is no longer in memory when this
/// returns.
Answers answer_prompts(const Communicator& comm, const ModelSource& model, const RowPrompts& prompts,
                       const AnswerOptions& options);

/// The text of a completion. It is decoded after the last tokens of the prompt, because a tokenizer may drop a space at
/// the start of a text. Control tokens are left out; bytes that are not valid UTF-8 become U+FFFD.
std::string completion_text(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                            std::span<const int32_t> completion);

/// Token ids of whole texts, each a prompt and an answer, as a model that scores them reads them.
class AnswerEncoder {
 public:
  /// model_directory: whose tokenizer and template it uses. Throws as load_tokenizer().
  AnswerEncoder(const std::string& model_directory, PromptForm form, const DataOptions& data);

  /// has_end: the text ends as a prepared pair does; else where the answer does.
  std::vector<int32_t> encode(const RowPrompt& prompt, const std::string& answer, bool has_end = true) const;

 private:
  Tokenizer tokenizer_;
  RowFormat format_;
  std::optional<RowTemplate> template_;
  PairOptions options_;
};

/// Collective: the rewards, [prompt][answer], on every rank. Prompt and answer are one text that ends as a prepared
/// pair does.
std::vector<std::vector<double>> score_answers(const Communicator& comm, RewardModel& reward_model,
                                               const RowPrompts& prompts,
                                               const std::vector<std::vector<std::string>>& answers,
                                               const DataOptions& data);

}  // namespace plumb
