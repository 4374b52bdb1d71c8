// A micro-batch: what one rank computes between two gathers of the same unit. It holds whole documents, concatenated
// without padding. Documents do not see each other: attention, positions and labels restart with each. Texts that begin
// with the same prompt, such as those of a pair or the completions of a group, may store and compute it once: the
// documents after the first of them contain only the tokens after it.
#pragma once

#include <cstdint>
#include <vector>

namespace plumb {

/// The log-probability of the trained tokens of one document of a pair, in two parts: that of as many tokens as the
/// shorter answer of the pair has, and that of the remaining tokens of the longer one. Length-desensitized DPO weights
/// them separately.
struct SequenceLogps {
  double shared = 0;
  double tail = 0;
  bool operator==(const SequenceLogps&) const = default;
};

struct MicroBatch {
  std::vector<int64_t> token_ids;       // [T]
  std::vector<int64_t> document_begin;  // first token of each document, then T
  std::vector<uint8_t> loss_mask;       // [T], 1: the token is trained
  std::vector<int64_t> row_ids;         // the source row of each document

  /// For each document, the number of leading tokens that it shares with the start of its source and does not store;
  /// empty: every document is stored whole. The source is the nearest document before it that is stored whole.
  std::vector<int64_t> prefix_length;

  // For pairs: documents 2i and 2i + 1 are the chosen and the rejected text of pair i.
  std::vector<double> margins;                 // one per pair; empty if the data has none
  std::vector<SequenceLogps> reference_logps;  // one per document; empty if none were computed

  // For optimization against rewards: every document is a prompt with one completion, whose tokens are trained. A
  // completion that the loss leaves out, such as a truncated one, has no trained tokens.
  std::vector<double> advantages;  // one per document; empty outside of it
  /// The round of rollouts that the documents come from: its completions, and their trained tokens.
  int64_t round_completions = 0, round_tokens = 0;
  /// Completions that would belong here, but are no documents because their gradient is exactly zero, and their trained
  /// tokens. They count in the weights of the others.
  int64_t left_out_completions = 0, left_out_tokens = 0;
  // Log-probabilities under the policy before the round's first step and under the reference: one per target, in the
  // order of find_targets(). Empty: the policy's own, so that the ratio is 1; no reference.
  std::vector<float> old_logps, reference_token_logps;

  int64_t number = 0;  // a * ranks + r within its step, or file order within an evaluation

  /// A micro-batch for a rank that has no rows left in this step: one dummy token, so that the rank computes while the
  /// others do.
  static MicroBatch empty() {
    MicroBatch batch;
    batch.token_ids = {0};
    batch.document_begin = {0, 1};
    batch.loss_mask = {0};
    batch.row_ids = {-1};
    return batch;
  }
  bool is_empty() const { return row_ids.size() == 1 && row_ids[0] == -1; }

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_documents() const { return static_cast<int64_t>(document_begin.size()) - 1; }
  int64_t prefix_of(int64_t document) const { return prefix_length.empty() ? 0 : prefix_length[document]; }
  /// The document that stores the prefix of this one: itself without a prefix.
  int64_t source_of(int64_t document) const {
    while (prefix_of(document) > 0) --document;
    return document;
  }
  /// The index in the micro-batch of the token at `position` of a document.
  int64_t token_at(int64_t document, int64_t position) const {
    const int64_t prefix = prefix_of(document);
    return position < prefix ? document_begin[source_of(document)] + position
                             : document_begin[document] + position - prefix;
  }
  int64_t document_tokens(int64_t document) const {
    const auto index = static_cast<size_t>(document);
    return prefix_of(document) + document_begin[index + 1] - document_begin[index];
  }
  /// The tokens of all documents, with shared prompts counted in each, as logged. num_tokens() counts the computed
  /// ones.
  int64_t num_document_tokens() const {
    int64_t count = num_tokens();
    for (const int64_t prefix : prefix_length) count += prefix;
    return count;
  }
  int64_t num_pairs() const { return is_empty() ? 0 : num_documents() / 2; }
};

}  // namespace plumb
