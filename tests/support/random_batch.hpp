// A micro-batch of two short documents, determined by its step and its number only.
#pragma once

#include "lib/base/random.hpp"
#include "lib/model/batch.hpp"

namespace plumb::test {

inline MicroBatch random_batch(uint64_t step, uint64_t m, int64_t vocab) {
  MicroBatch batch;
  batch.document_begin.push_back(0);
  for (uint64_t document = 0; document < 2; ++document) {
    const uint64_t length = 3 + random_bits(7, m, step * 10 + document) % 14;
    for (uint64_t t = 0; t < length; ++t) {
      const uint64_t bits = random_bits(8, m, (step * 10 + document) * 100 + t);
      batch.token_ids.push_back(static_cast<int64_t>(bits % static_cast<uint64_t>(vocab)));
      batch.loss_mask.push_back(t > 1 ? 1 : 0);
    }
    batch.document_begin.push_back(batch.num_tokens());
  }
  return batch;
}

}  // namespace plumb::test
