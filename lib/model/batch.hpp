// What one rank computes between two gathers of the same unit: whole documents laid end to end, without padding. No
// document sees another: attention, positions and labels start anew with each.
#pragma once

#include <cstdint>
#include <vector>

namespace plumb {

struct MicroBatch {
  std::vector<int64_t> token_ids;       // [T]
  std::vector<int64_t> document_begin;  // first token of each document, then T
  std::vector<uint8_t> loss_mask;       // [T], 1 where the token is to be learnt
  std::vector<int64_t> row_ids;         // the source row of each document

  /// A micro-batch for which the step had no rows left: one token that stands for none, so that its rank has something
  /// to compute while the others do.
  static MicroBatch empty() { return {{0}, {0, 1}, {0}, {-1}}; }
  bool is_empty() const { return row_ids.size() == 1 && row_ids[0] == -1; }

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_documents() const { return static_cast<int64_t>(document_begin.size()) - 1; }
};

}  // namespace plumb
