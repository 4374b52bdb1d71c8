// Attention of CUDA tensors: how documents, prefixes, windows and sinks become one call of LibTorch's flash attention,
// and its gradients those of qkv. Compiled for CPU tensors, with plain arithmetic for the operator, or, with
// PLUMB_ON_GPU, for a GPU and the operator itself: then it is skipped without a device.
#include "lib/nn/attention_cuda.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/kernels/reference.hpp"
#include "lib/nn/block_reference.hpp"
#include "lib/nn/flash_attention.hpp"

namespace plumb {

#ifndef PLUMB_ON_GPU

namespace {

int64_t num_calls = 0;

/// The rows of document i.
at::Tensor of_document(const at::Tensor& rows, const at::Tensor& begin, int64_t i) {
  const auto at = begin.accessor<int32_t, 1>();
  return rows.narrow(0, at[i], at[i + 1] - at[i]);
}

/// Scaled scores [H, queries, keys] of one document in float64, minus infinity where a query does not see a key.
at::Tensor scores_of(const FlashInput& input, int64_t i) {
  const int64_t group = input.q_THK.size(1) / input.k_SGK.size(1);
  const at::Tensor q = of_document(input.q_THK, input.query_begin, i).to(at::kDouble).transpose(0, 1),
                   k = of_document(input.k_SGK, input.key_begin, i).to(at::kDouble).transpose(0, 1);
  const int64_t num_queries = q.size(1), num_keys = k.size(1);
  const at::Tensor distance = at::arange(num_queries).unsqueeze(1) + (num_keys - num_queries) - at::arange(num_keys);
  at::Tensor hidden = distance.lt(0);
  if (input.window > 0) hidden = hidden.logical_or(distance.ge(input.window));
  return (q.matmul(k.repeat_interleave(group, 0).transpose(1, 2)) * input.scale).masked_fill(hidden, -INFINITY);
}

at::Tensor values_of(const FlashInput& input, int64_t i) {
  const int64_t group = input.q_THK.size(1) / input.k_SGK.size(1);
  return of_document(input.v_SGK, input.key_begin, i).to(at::kDouble).transpose(0, 1).repeat_interleave(group, 0);
}

/// The operator requires this of its arguments.
void expect_valid(const FlashInput& input) {
  for (const auto& [begin, rows, most] : {std::tuple(input.query_begin, input.q_THK, input.most_queries),
                                          std::tuple(input.key_begin, input.k_SGK, input.most_keys)}) {
    EXPECT_TRUE(begin.scalar_type() == at::kInt && begin.is_contiguous());
    EXPECT_EQ(begin[-1].item<int64_t>(), rows.size(0));
    EXPECT_EQ(begin.diff().max().item<int64_t>(), most);
  }
  for (const at::Tensor& x : {input.q_THK, input.k_SGK, input.v_SGK}) EXPECT_EQ(x.stride(2), 1);
  EXPECT_EQ(input.k_SGK.sizes(), input.v_SGK.sizes());
}

/// Sums over the query heads of each key head.
at::Tensor sum_of_groups(const at::Tensor& x_HSK, int64_t num_kv_heads) {
  return x_HSK.unflatten(0, {num_kv_heads, x_HSK.size(0) / num_kv_heads}).sum(1).transpose(0, 1);
}

}  // namespace

FlashOutput flash_forward(const FlashInput& input) {
  ++num_calls;
  expect_valid(input);
  std::vector<at::Tensor> outputs, log_sum_exps;
  for (int64_t i = 0; i + 1 < input.query_begin.size(0); ++i) {
    const at::Tensor scores = scores_of(input, i);
    outputs.push_back(scores.softmax(2).matmul(values_of(input, i)).transpose(0, 1));
    log_sum_exps.push_back(scores.logsumexp(2));
  }
  return {at::cat(outputs).to(input.q_THK.scalar_type()), at::cat(log_sum_exps, 1).to(at::kFloat)};
}

FlashGradients flash_backward(const FlashInput& input, const FlashOutput& output, const at::Tensor& dout_THK) {
  expect_valid(input);
  const int64_t g = input.k_SGK.size(1), group = input.q_THK.size(1) / g;
  std::vector<at::Tensor> dqs, dks, dvs;
  for (int64_t i = 0; i + 1 < input.query_begin.size(0); ++i) {
    const auto queries_of = [&](const at::Tensor& rows_THK) {
      return of_document(rows_THK, input.query_begin, i).to(at::kDouble).transpose(0, 1);
    };
    const at::Tensor log_sum_exp = of_document(output.log_sum_exp_HT.t(), input.query_begin, i).t().to(at::kDouble);
    const at::Tensor p = (scores_of(input, i) - log_sum_exp.unsqueeze(2)).exp(), dout = queries_of(dout_THK);
    const at::Tensor dot = (dout * queries_of(output.out_THK)).sum(2, true);
    const at::Tensor dscores = p * (dout.matmul(values_of(input, i).transpose(1, 2)) - dot) * input.scale;
    const at::Tensor k = of_document(input.k_SGK, input.key_begin, i).to(at::kDouble).transpose(0, 1);
    dqs.push_back(dscores.matmul(k.repeat_interleave(group, 0)).transpose(0, 1));
    dks.push_back(sum_of_groups(dscores.transpose(1, 2).matmul(queries_of(input.q_THK)), g));
    dvs.push_back(sum_of_groups(p.transpose(1, 2).matmul(dout), g));
  }
  const at::ScalarType dtype = input.q_THK.scalar_type();
  return {at::cat(dqs).to(dtype), at::cat(dks).to(dtype), at::cat(dvs).to(dtype)};
}

#endif

namespace {

struct CudaCase {
  const char* what;
  AttentionShape shape;
  std::vector<int64_t> begin;
  std::vector<int64_t> prefix_length = {};
  bool has_sinks = false;
};
void PrintTo(const CudaCase& given, std::ostream* out) { *out << given.what; }

const CudaCase kCases[] = {
    {"one document", {2, 2, 8, 0}, {0, 13}},
    {"two query heads per key head", {4, 2, 16, 0}, {0, 7, 8, 20, 33}},
    {"window", {4, 2, 16, 5}, {0, 17, 22, 25}},
    {"window of one token", {2, 2, 8, 1}, {0, 9, 18}},
    {"scaled scores", {4, 2, 16, 0, 0.1}, {0, 7, 20}},
    {"shared prefixes", {4, 2, 16, 0}, {0, 9, 12, 17, 30, 31}, {0, 6, 9, 0, 4}},
    {"shared prefixes in a window", {4, 1, 8, 4}, {0, 9, 12, 17, 30, 31}, {0, 6, 9, 0, 4}},
    {"sinks", {4, 2, 16, 0}, {0, 7, 8, 20, 33}, {}, true},
    {"sinks, a window and prefixes", {4, 4, 16, 5}, {0, 7, 9, 20, 33}, {0, 5, 0, 11}, true},
};

struct Results {
  at::Tensor out, dqkv, dsinks;
};

class CudaAttention : public testing::TestWithParam<CudaCase> {
 protected:
  void SetUp() override {
#ifdef PLUMB_ON_GPU
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    device_ = at::kCUDA;
#endif
    at::manual_seed(1);
  }

  static Results on(at::Device device, const CudaCase& given, at::Tensor qkv, at::Tensor dout) {
    const bool is_cpu_attention = qkv.scalar_type() == at::kFloat;
    const int64_t h = given.shape.num_heads;
    qkv = qkv.to(device);
    dout = dout.to(device);
    // NaN shows what was not written
    const Results results = {at::full_like(dout, std::nan("")), at::full_like(qkv, std::nan("")),
                             at::full({h}, 2.0, qkv.options().dtype(at::kFloat))};
    const at::Tensor sinks = (at::arange(h).to(at::kFloat) * 0.5 - 0.7).to(device);
    AttentionShape shape = given.shape;
    if (given.has_sinks) shape.sinks_H = sinks.const_data_ptr<float>();
    const Documents documents = {given.begin, given.prefix_length};
    const at::Tensor dsinks = given.has_sinks ? results.dsinks : at::Tensor();
    AttentionActivations saved;
    (is_cpu_attention ? attention_forward : attention_forward_cuda)(shape, qkv, documents, results.out, saved);
    (is_cpu_attention ? attention_backward : attention_backward_cuda)(shape, qkv, documents, saved, dout, results.dqkv,
                                                                      dsinks);
    return {results.out.cpu(), results.dqkv.cpu(), results.dsinks.cpu()};
  }

  at::Device device_ = at::kCPU;
};
INSTANTIATE_TEST_SUITE_P(Cases, CudaAttention, testing::ValuesIn(kCases));

// Probabilities, outputs and gradients are stored in 8 bits, with sinks and prefixes once more.
TEST_P(CudaAttention, EqualsThatOfTheCpu) {
  const CudaCase& given = GetParam();
  constexpr int64_t kPadding = 3;
  const int64_t num_rows = given.begin.back();
  const AttentionShape& shape = given.shape;
  const at::Tensor qkv = at::randn({num_rows + kPadding, (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim})
                             .to(at::kBFloat16),
                   dout = at::randn({num_rows + kPadding, shape.num_heads * shape.head_dim}).to(at::kBFloat16);
  const auto rows = [&](const at::Tensor& x) { return x.narrow(0, 0, num_rows); };
  const Results expected = on(at::kCPU, given, rows(qkv).to(at::kFloat), rows(dout).to(at::kFloat)),
                got = on(device_, given, qkv, dout);
  EXPECT_LE(reference::relative_distance(rows(got.out), expected.out), 0x1p-7);
  EXPECT_LE(reference::relative_distance(rows(got.dqkv), expected.dqkv), 0x1p-7);
  EXPECT_LE(reference::relative_distance(got.dsinks, expected.dsinks), 0x1p-7);
  for (const at::Tensor& x : {got.out, got.dqkv})  // rows of no document
    EXPECT_EQ(x.narrow(0, num_rows, kPadding).abs().max().item<float>(), 0);
  const Results again = on(device_, given, qkv, dout);
  EXPECT_TRUE(got.out.equal(again.out) && got.dqkv.equal(again.dqkv) && got.dsinks.equal(again.dsinks));
#ifndef PLUMB_ON_GPU
  EXPECT_EQ(std::exchange(num_calls, 0), 2);  // one for all documents
#endif
}

std::string refusal(const AttentionShape& shape, at::ScalarType dtype) {
  const at::Tensor qkv = at::zeros({4, (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim}, dtype),
                   out = at::zeros({4, shape.num_heads * shape.head_dim}, dtype);
  const std::vector<int64_t> begin = {0, 4};
  AttentionActivations saved;
  try {
    attention_forward_cuda(shape, qkv, {begin, {}}, out, saved);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(CudaAttentionRefusals, NameWhatTheOperatorLacks) {
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_TRUE(contains(refusal({2, 1, 8, 0}, at::kFloat), "expected --dtype bfloat16, got Float"));
  EXPECT_TRUE(contains(refusal({2, 1, 8, 0, 0, 50}, at::kBFloat16), "caps its scores at 50"));
  for (const int64_t head_dim : {20, 264})
    EXPECT_TRUE(contains(refusal({2, 1, head_dim, 0}, at::kBFloat16), "expected a head_dim that is a multiple of 8"));
}

}  // namespace
}  // namespace plumb
