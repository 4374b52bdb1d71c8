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

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_documents() const { return static_cast<int64_t>(document_begin.size()) - 1; }
};

}  // namespace plumb
