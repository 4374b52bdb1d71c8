#include "lib/nn/attention.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <vector>

#include "lib/kernels/reference.hpp"
#include "lib/nn/block_reference.hpp"

namespace plumb {
namespace {

using Documents = std::vector<int64_t>;

struct AttentionCase {
  const char* what;
  AttentionShape shape;
  Documents document_begin;
  bool has_sinks = false;
};

const AttentionCase kCases[] = {
    {"as many key heads as query heads", {3, 3, 8, 0}, {0, 13}},
    {"two query heads per key head", {4, 2, 16, 0}, {0, 7, 8, 20, 33}},
    {"one key head for all", {5, 1, 20, 0}, {0, 3, 13}},
    {"documents of equal length share a call", {4, 2, 16, 0}, {0, 5, 10, 15, 22, 29}},
    {"one token", {2, 1, 8, 0}, {0, 1}},
    {"window shorter than, equal to and longer than a document", {4, 2, 16, 5}, {0, 17, 22, 25}},
    {"window of one token", {2, 2, 8, 1}, {0, 9, 18}},
    {"longer than the operator's blocks of keys", {2, 1, 8, 0}, {0, 1100, 1400}},
    {"so long that whole blocks of keys precede the window", {2, 1, 8, 48}, {0, 1100}},
    {"scaled scores", {4, 2, 16, 5, 0.1}, {0, 7, 20}},
    {"capped scores", {4, 2, 16, 0, 0.5, 1.5}, {0, 5, 10, 15, 22, 29, 160}},
    {"capped scores in a window", {4, 2, 16, 9, 0, 1.5}, {0, 1, 6, 160}},
    {"sinks", {4, 2, 16, 0}, {0, 7, 8, 20, 33, 120}, true},
    {"sinks in a window", {4, 4, 16, 9}, {0, 7, 8, 20, 33, 120}, true},
};

struct Computed {
  at::Tensor out, dqkv;
  size_t num_calls;
  at::Tensor dsinks;
};

at::Tensor sinks_of(const AttentionCase& given) { return at::arange(given.shape.num_heads).to(at::kFloat) * 0.5 - 0.7; }

Computed compute(const AttentionCase& given, const at::Tensor& qkv, const at::Tensor& dout) {
  // NaN shows what was not written
  const at::Tensor out = at::full_like(dout, std::nan("")), dqkv = at::full_like(qkv, std::nan(""));
  AttentionActivations saved;
  AttentionShape shape = given.shape;
  const at::Tensor sinks = sinks_of(given);
  if (given.has_sinks) shape.sinks_H = sinks.const_data_ptr<float>();
  const at::Tensor dsinks = at::zeros({shape.num_heads});
  attention_forward(shape, qkv, {given.document_begin, {}}, out, saved);
  attention_backward(shape, qkv, {given.document_begin, {}}, saved, dout, dqkv, dsinks);
  return {out, dqkv, saved.outputs.size(), dsinks};
}

at::Tensor random_qkv(const AttentionCase& given) {
  const AttentionShape& shape = given.shape;
  return at::randn({given.document_begin.back(), (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim});
}
at::Tensor random_dout(const AttentionCase& given) {
  return at::randn({given.document_begin.back(), given.shape.num_heads * given.shape.head_dim});
}

void PrintTo(const AttentionCase& given, std::ostream* out) { *out << given.what; }

class Attention : public testing::TestWithParam<AttentionCase> {
 protected:
  void SetUp() override { at::manual_seed(1); }

  static void expect_reference(at::ScalarType dtype, double tolerance) {
    const AttentionCase& given = GetParam();
    const at::Tensor qkv = random_qkv(given).to(dtype), dout = random_dout(given).to(dtype);
    const at::Tensor leaf = qkv.to(at::kDouble).set_requires_grad(true);
    const at::Tensor sinks = given.has_sinks ? sinks_of(given).to(at::kDouble).set_requires_grad(true) : at::Tensor();
    const at::Tensor expected = reference::attention(given.shape, leaf, given.document_begin, sinks);
    expected.backward(dout.to(at::kDouble));
    const Computed got = compute(given, qkv, dout);
    EXPECT_LE(reference::relative_distance(got.out, expected.detach()), tolerance);
    EXPECT_LE(reference::relative_distance(got.dqkv, leaf.grad()), tolerance);
    if (given.has_sinks) {
      EXPECT_LE(reference::relative_distance(got.dsinks, sinks.grad()), tolerance);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Cases, Attention, testing::ValuesIn(kCases));

// Scores, their exponentials and the sums of up to 1100 of them round to 24 bits; the errors are of either sign, so
// that sqrt(1100) of them remain.
TEST_P(Attention, InFloat32EqualsTheReference) { expect_reference(at::kFloat, 33 * 0x1p-24); }

// Inputs are exact. Probabilities, outputs and, backwards, the gradients of scores are each stored in 8 bits.
TEST_P(Attention, InBFloat16EqualsTheReference) { expect_reference(at::kBFloat16, 3 * 0x1p-8); }

TEST(AttentionCalls, AreSharedByNeighborsOfEqualLength) {
  const AttentionShape shape{2, 1, 8, 0};
  const auto num_calls = [&](const Documents& documents) {
    const AttentionCase given{"", shape, documents};
    return compute(given, random_qkv(given), random_dout(given)).num_calls;
  };
  EXPECT_EQ(num_calls({0, 5, 10, 15}), 1u);
  EXPECT_EQ(num_calls({0, 5, 11, 16}), 3u);
  EXPECT_EQ(num_calls({0, 5, 10, 12, 14, 19}), 3u);
}

TEST(AttentionDocuments, DoNotAttendToEachOther) {
  at::manual_seed(2);
  for (const Documents& documents : {Documents{0, 6, 12, 18}, Documents{0, 6, 10, 18}})
    for (const int64_t window : {0, 3}) {
      const AttentionCase given{"", {4, 2, 8, window}, documents};
      const at::Tensor qkv = random_qkv(given), dout = random_dout(given);
      at::Tensor other_qkv = qkv.clone(), other_dout = dout.clone();
      const int64_t begin = documents[1], end = documents[2];
      other_qkv.narrow(0, begin, end - begin).normal_();
      other_dout.narrow(0, begin, end - begin).normal_();
      const Computed first = compute(given, qkv, dout), second = compute(given, other_qkv, other_dout);
      for (const auto& [from, to] : {std::pair(int64_t{0}, begin), std::pair(end, documents.back())}) {
        EXPECT_TRUE(first.out.narrow(0, from, to - from).equal(second.out.narrow(0, from, to - from)));
        EXPECT_TRUE(first.dqkv.narrow(0, from, to - from).equal(second.dqkv.narrow(0, from, to - from)));
      }
      EXPECT_FALSE(first.out.equal(second.out));
    }
}

TEST(AttentionDocuments, AreMaskedCausallyAndByTheWindow) {
  at::manual_seed(3);
  for (const int64_t window : {0, 4}) {
    const AttentionCase given{"", {2, 1, 8, window}, {0, 12}};
    const at::Tensor qkv = random_qkv(given), dout = random_dout(given);
    const at::Tensor before = compute(given, qkv, dout).out;
    constexpr int64_t kChanged = 5;
    at::Tensor changed = qkv.clone();
    changed[kChanged].normal_();
    const at::Tensor after = compute(given, changed, dout).out;
    for (int64_t token = 0; token < 12; ++token) {
      const bool sees = token >= kChanged && (window == 0 || token - kChanged < window);
      EXPECT_EQ(!before[token].equal(after[token]), sees) << token << " window " << window;
    }
  }
}

}  // namespace
}  // namespace plumb
