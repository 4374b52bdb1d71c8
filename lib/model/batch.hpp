// What one rank computes between two gathers of the same unit: whole documents laid end to end, without padding. No
// document sees another: attention, positions and labels start anew with each. The two texts of a pair begin with the
// same prompt, which is laid down and computed once: the second document then holds only what follows it.
#pragma once

#include <cstdint>
#include <vector>

namespace plumb {

/// Log-probability of the trained tokens of one document of a pair, in two parts: the first as many tokens as the
/// shorter answer of the pair has, and what the longer one has beyond them. Length-desensitized DPO weighs them apart.
struct SequenceLogps {
  double shared = 0;
  double tail = 0;
  bool operator==(const SequenceLogps&) const = default;
};

struct MicroBatch {
  std::vector<int64_t> token_ids;       // [T]
  std::vector<int64_t> document_begin;  // first token of each document, then T
  std::vector<uint8_t> loss_mask;       // [T], 1 where the token is to be learned
  std::vector<int64_t> row_ids;         // the source row of each document

  /// Of each document, how many tokens it begins with that stand at the start of the document before it and not again;
  /// empty: every document stands whole. One that borrows is not borrowed from.
  std::vector<int64_t> prefix_length;

  // Of pairs: documents 2i and 2i + 1 are the chosen and the rejected text of pair i.
  std::vector<double> margins;                 // of each pair; empty where the data has none
  std::vector<SequenceLogps> reference_logps;  // of each document; empty where none were computed

  int64_t number = 0;  // a * ranks + r within its step, or in file order within an evaluation

  /// A micro-batch for which the step had no rows left: one token that stands for none, so that its rank has something
  /// to compute while the others do.
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
  /// The token of the micro-batch that stands at `position` of a document.
  int64_t token_at(int64_t document, int64_t position) const {
    const int64_t prefix = prefix_of(document);
    return position < prefix ? document_begin[document - 1] + position : document_begin[document] + position - prefix;
  }
  int64_t document_tokens(int64_t document) const {
    const auto index = static_cast<size_t>(document);
    return prefix_of(document) + document_begin[index + 1] - document_begin[index];
  }
  /// Tokens of all documents, those of a shared prompt in each: what is logged. num_tokens() are computed.
  int64_t num_document_tokens() const {
    int64_t count = num_tokens();
    for (const int64_t prefix : prefix_length) count += prefix;
    return count;
  }
  int64_t num_pairs() const { return is_empty() ? 0 : num_documents() / 2; }
};

}  // namespace plumb
