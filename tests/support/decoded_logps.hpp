// Decoding from base and adapter against a forward pass of the model that is trained.
#pragma once

#include <ATen/ops/log_softmax.h>
#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "lib/nn/decode.hpp"
#include "lib/objective/sft.hpp"
#include "partition/adapted_model.hpp"

namespace plumb::test {

/// The log-probability of a text's last token, as a decoder has it that reads base and adapter where they are: first
/// the token before it is a step of its own, then the end of a prompt. Both are that of a forward pass.
inline std::vector<double> decoded_logps(AdaptedModel& model, double tolerance) {
  const std::vector<int32_t> text = {5, 7, 31, 96, 0, 12};
  MicroBatch batch;
  batch.token_ids.assign(text.begin(), text.end());
  batch.document_begin = {0, std::ssize(text)};
  batch.loss_mask = {0, 0, 0, 0, 0, 1};
  batch.row_ids = {0};
  SftObjective objective(model.config().output(), TokenLoss::kNll);
  ObjectiveSums sums = objective.empty_sums();
  ForwardPass pass = model.forward(batch, objective.read_rows(batch), Pass::evaluation());
  objective.apply(pass.hidden_TD(), batch, pass.head(), nullptr, {}, sums);
  pass.finish();
  Decoder decoder(model.resident_units());
  const std::span tokens(text);
  decoder.add(tokens.first(4));
  std::vector<double> logps;
  for (const at::Tensor& logits_BV : {decoder.step(tokens.subspan(4, 1)), decoder.add(tokens.first(5), 2)}) {
    logps.push_back(at::log_softmax(logits_BV, 1)[0][text.back()].item<float>());
    EXPECT_NEAR(logps.back(), -sums.sums[0].value(), tolerance);
  }
  return logps;
}

}  // namespace plumb::test
