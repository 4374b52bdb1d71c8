// The hand-written forward and backward of a block against LibTorch's autograd of block_reference.hpp.
#include "lib/nn/block.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "lib/kernels/reference.hpp"
#include "lib/nn/block_reference.hpp"

namespace plumb {
namespace {

using Documents = std::vector<int64_t>;

constexpr int64_t kLayer = 1;  // of two, so that the other layer's window would show

struct BlockCase {
  const char* what;
  ModelConfig config;
};

/// No size is a multiple of the 16 lanes; two query heads per key head.
ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 11;
  config.hidden_size = 36;
  config.intermediate_size = 50;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 12;
  config.max_position_embeddings = 16;
  config.norm.epsilon = 1e-5;
  config.sliding_window = {2, 0};
  return config;
}

MixtureConfig small_mixture(bool is_gpt_oss) {
  MixtureConfig mixture;
  mixture.num_experts = 5;
  mixture.num_chosen = 2;
  mixture.expert_size = 18;
  mixture.is_gpt_oss = is_gpt_oss;
  mixture.swiglu_limit = 0.5;
  return mixture;
}

/// small_config() after a change.
template <class Change>
BlockCase with(const char* what, Change change) {
  BlockCase result = {what, small_config()};
  change(result.config);
  return result;
}

using Kind = RopeConfig::Kind;

const BlockCase kCases[] = {
    with("llama", [](ModelConfig&) {}),
    with("llama_biases", [](ModelConfig& c) { c.has_qkv_bias = c.has_o_bias = c.has_mlp_bias = true; }),
    with("llama_scaled_rope", [](ModelConfig& c) { c.rope = {Kind::kLlama3, 10000.0, 8.0, 1.0, 4.0, 16}; }),
    with("mistral_window", [](ModelConfig& c) { c.sliding_window[kLayer] = 5; }),
    with("qwen2", [](ModelConfig& c) { c.has_qkv_bias = true; }),
    with("qwen3", [](ModelConfig& c) { c.qk_norm = QkNorm::kHead; }),
    with("gemma2",
         [](ModelConfig& c) {
           c.norm.weight_offset = 1;
           c.norm_placement = NormPlacement::kAround;
           c.feed_forward = FeedForward::kGeGlu;
           c.score_scale = 0.4;
           c.score_cap = 0.7;
         }),
    with("gemma2_window",
         [](ModelConfig& c) {
           c.score_cap = 0.7;
           c.sliding_window[kLayer] = 4;
         }),
    with("gemma3",
         [](ModelConfig& c) {
           c.norm.weight_offset = 1;
           c.norm_placement = NormPlacement::kAround;
           c.qk_norm = QkNorm::kHead;
           c.sliding_window[kLayer] = 6;
           c.sliding_rope = RopeConfig{.theta = 100};
         }),
    with("phi3",
         [](ModelConfig& c) {
           c.has_fused_qkv = c.has_fused_gate_up = true;
           c.rope = {.kind = Kind::kLongRope, .factor = 4, .original_max_position_embeddings = 8};
           c.rope.partial_rotary_factor = 0.67;
           c.rope.short_factor = {1, 1.1, 1.3, 1.5};
           c.rope.long_factor = {1, 2, 3, 4};
         }),
    with("olmo2",
         [](ModelConfig& c) {
           c.norm_placement = NormPlacement::kAfter;
           c.qk_norm = QkNorm::kAllHeads;
         }),
    with("smollm3",
         [](ModelConfig& c) {
           c.is_unrotated = {false, true};
         }),
    with("granite",
         [](ModelConfig& c) {
           c.score_scale = 0.2;
           c.residual_multiplier = 0.3;
         }),
    with("cohere2",
         [](ModelConfig& c) {
           c.norm.kind = NormKind::kLayer;
           c.norm_placement = NormPlacement::kParallel;
           c.rope.is_interleaved = true;
         }),
    with("glm4",
         [](ModelConfig& c) {
           c.norm_placement = NormPlacement::kAround;
           c.has_qkv_bias = c.has_fused_gate_up = true;
           c.rope.is_interleaved = true;
           c.rope.partial_rotary_factor = 0.5;
         }),
    with("starcoder2",
         [](ModelConfig& c) {
           c.norm = {.kind = NormKind::kLayer, .epsilon = 1e-5, .has_bias = true};
           c.feed_forward = FeedForward::kGelu;
           c.has_qkv_bias = c.has_o_bias = c.has_mlp_bias = true;
         }),
    with("yarn",
         [](ModelConfig& c) { c.rope = {.kind = Kind::kYarn, .factor = 4, .original_max_position_embeddings = 8}; }),
    with("mixtral", [](ModelConfig& c) { c.mixture = small_mixture(false); }),
    with("qwen2_moe",
         [](ModelConfig& c) {
           c.mixture = small_mixture(false);
           c.mixture.renormalizes = false;
           c.mixture.shared_expert_size = 13;
           c.mixture.is_dense = {true, false};
         }),
    with("gpt_oss",
         [](ModelConfig& c) {
           c.mixture = small_mixture(true);
           c.has_sinks = c.has_qkv_bias = c.has_o_bias = true;
           c.sliding_window[kLayer] = 4;
         }),
    with("dynamic", [](ModelConfig& c) { c.rope = {.kind = Kind::kDynamic, .factor = 4}; }),
};
const Documents kPackings[] = {{0, 17}, {0, 1}, {0, 9, 18, 27}, {0, 7, 8, 20, 25}};

UnitLayout unit_of(const ModelConfig& config) { return unit_layouts(config)[kLayer + 1]; }

/// The block's flat buffer; gaps between parameters are NaN, so that reading them is detected.
at::Tensor random_parameters(const ModelConfig& config, const UnitLayout& unit, at::ScalarType dtype) {
  const at::Tensor flat = at::full({unit.num_elements}, std::nan(""));
  for (const Parameter& p : unit.parameters) {
    flat.narrow(0, p.offset, p.num_elements())
        .normal_(is_norm_weight(p.kind) ? 1.0 - config.norm.weight_offset : 0.0, 0.2);
  }
  return flat.to(dtype);
}

struct Computed {
  at::Tensor out, dinput, gradients;
};

/// Forward and backward; with `recomputes`, backward from a second forward, as gradient checkpointing does.
Computed compute(const ModelConfig& config, const Documents& documents, const at::Tensor& flat, const at::Tensor& input,
                 const at::Tensor& dout, bool recomputes = false, const at::Tensor& read_rows = {}) {
  const UnitLayout unit = unit_of(config);
  ModelRope rope(config);
  const BlockContext context(config, rope, {documents, {}}, read_rows);
  const BlockTensors parameters = block_tensors(unit, flat);
  BlockActivations saved;
  Computed result;
  result.out = block_forward(context, kLayer, parameters, input, saved);
  if (recomputes) {
    saved = {};
    block_recompute(context, kLayer, parameters, input, saved);
  }
  result.gradients = at::full_like(flat, std::nan(""));  // backward overwrites, it does not add
  result.dinput = block_backward(context, kLayer, parameters, saved, dout, block_tensors(unit, result.gradients));
  EXPECT_FALSE(saved.gate_up_RE.defined()) << "activations are freed";
  return result;
}

void PrintTo(const BlockCase& given, std::ostream* out) { *out << given.what; }

class Block : public testing::TestWithParam<BlockCase> {
 protected:
  void SetUp() override { at::manual_seed(1); }

  at::Tensor randn(const Documents& documents, at::ScalarType dtype = at::kFloat) const {
    return at::randn({documents.back(), config_.hidden_size}).to(dtype);
  }

  /// The last row of each document, and every fourth.
  static at::Tensor some_rows(const Documents& documents) {
    const at::Tensor is_read = at::zeros({documents.back()}, at::kBool);
    is_read.slice(0, 0, documents.back(), 4).fill_(true);
    for (size_t i = 1; i < documents.size(); ++i) is_read[documents[i] - 1].fill_(true);
    return is_read.nonzero().flatten();
  }

  /// With read_some, only some rows of the output are read.
  void expect_autograd_of_reference(at::ScalarType dtype, double tolerance, bool read_some = false) {
    if (dtype == at::kBFloat16) {  // rounded logits may choose other experts, and fall to the other side of a limit
      config_.mixture.num_chosen = config_.mixture.num_experts;
      config_.mixture.swiglu_limit = 100;
    }
    const UnitLayout unit = unit_of(config_);
    for (const Documents& documents : kPackings) {
      const at::Tensor flat = random_parameters(config_, unit, dtype), input = randn(documents, dtype);
      const at::Tensor rows = read_some ? some_rows(documents) : at::Tensor();
      const at::Tensor is_read =
          read_some ? at::zeros({documents.back(), 1}).index_fill_(0, rows, 1) : at::ones({documents.back(), 1});
      const at::Tensor ignored_dout = randn(documents, dtype), dout = (ignored_dout * is_read).to(dtype);
      const at::Tensor flat_leaf = flat.to(at::kDouble).set_requires_grad(true);
      const at::Tensor input_leaf = input.to(at::kDouble).set_requires_grad(true);
      const at::Tensor expected =
          reference::block(config_, kLayer, block_tensors(unit, flat_leaf), input_leaf, documents);
      expected.backward(dout.to(at::kDouble));
      const Computed got = compute(config_, documents, flat, input, ignored_dout, false, rows);
      EXPECT_EQ(got.out.scalar_type(), dtype);
      EXPECT_LE(reference::relative_distance(got.out, expected.detach() * is_read), tolerance);
      EXPECT_LE(reference::relative_distance(got.dinput, input_leaf.grad()), tolerance);
      for (const Parameter& p : unit.parameters) {
        const at::Tensor exact = flat_leaf.grad().narrow(0, p.offset, p.num_elements());
        const at::Tensor gradient = got.gradients.narrow(0, p.offset, p.num_elements());
        // what is added to all keys moves all scores of a query alike, but for the rotation, and softmax ignores that:
        // the gradient of k's bias is left of terms that cancel
        // a router's is left of what its experts have in common
        const bool is_router = p.kind == ParameterKind::kRouter || p.kind == ParameterKind::kRouterBias;
        const double of_few = is_expert_matrix(p.kind) ? 1.5 : 1;  // of few tokens, whose errors do not average out
        const double amplified = p.kind == ParameterKind::kKBias ? 3 : is_router ? 6 : of_few;
        // one token attends to itself whatever q and k are: their gradients are zero, less rounding
        if (exact.norm().item<double>() < 1e-12) {
          EXPECT_LE(gradient.norm().item<double>(), 100 * tolerance) << "parameter " << static_cast<int>(p.kind);
        } else {
          EXPECT_LE(reference::relative_distance(gradient, exact), amplified * tolerance)
              << "parameter " << static_cast<int>(p.kind) << " of " << documents.back() << " tokens";
        }
      }
    }
  }

  ModelConfig config_ = GetParam().config;
};
INSTANTIATE_TEST_SUITE_P(Families, Block, testing::ValuesIn(kCases),
                         [](const auto& named) { return std::string(named.param.what); });

// About a dozen steps follow each other, forward and backward, most of them sums of up to 50 products; errors are of
// either sign, so about sqrt(12 * 50) = 25 roundings to 24 bits remain.
TEST_P(Block, InFloat32EqualsAutogradOfTheReference) { expect_autograd_of_reference(at::kFloat, 25 * 0x1p-24); }

// Sums are in float32 and their results stored in 8 bits, a dozen times forward and backward: sqrt(12) of them, and two
// more because q and k multiply each other's errors.
TEST_P(Block, InBFloat16EqualsAutogradOfTheReference) { expect_autograd_of_reference(at::kBFloat16, 5.5 * 0x1p-8); }

TEST_P(Block, WithReadRowsHasTheirGradients) {
  expect_autograd_of_reference(at::kFloat, 25 * 0x1p-24, true);
  expect_autograd_of_reference(at::kBFloat16, 5.5 * 0x1p-8, true);
}

TEST_P(Block, RecomputationHasTheSameBits) {
  const UnitLayout unit = unit_of(config_);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const Documents& documents : kPackings) {
      const at::Tensor flat = random_parameters(config_, unit, dtype), input = randn(documents, dtype),
                       dout = randn(documents, dtype);
      const Computed saved = compute(config_, documents, flat, input, dout, false);
      const Computed again = compute(config_, documents, flat, input, dout, true);
      const Computed read = compute(config_, documents, flat, input, dout, false, some_rows(documents));
      const Computed read_again = compute(config_, documents, flat, input, dout, true, some_rows(documents));
      EXPECT_TRUE(read_again.dinput.equal(read.dinput));
      EXPECT_TRUE(again.dinput.equal(saved.dinput));
      for (const Parameter& p : unit.parameters)
        EXPECT_TRUE(again.gradients.narrow(0, p.offset, p.num_elements())
                        .equal(saved.gradients.narrow(0, p.offset, p.num_elements())));
    }
}

TEST_P(Block, AddsItsGradientsWhereAskedTo) {
  const UnitLayout unit = unit_of(config_);
  const Documents documents = {0, 7, 8, 20, 25};
  const at::Tensor flat = random_parameters(config_, unit, at::kFloat), input = randn(documents),
                   dout = randn(documents);
  const Computed written = compute(config_, documents, flat, input, dout);
  ModelRope rope(config_);
  const BlockContext context(config_, rope, {documents, {}});
  BlockActivations saved;
  block_forward(context, kLayer, block_tensors(unit, flat), input, saved);
  const at::Tensor before = random_parameters(config_, unit, at::kFloat), sum = before.clone();
  block_backward(context, kLayer, block_tensors(unit, flat), saved, dout, {block_tensors(unit, sum), true});
  for (const Parameter& p : unit.parameters) {
    const auto part = [&](const at::Tensor& of) { return of.narrow(0, p.offset, p.num_elements()); };
    EXPECT_LE(reference::relative_distance(part(sum), part(before).to(at::kDouble) + part(written.gradients)), 1e-6)
        << "parameter " << static_cast<int>(p.kind);
  }
}

TEST_P(Block, DocumentsDoNotAttendToEachOther) {
  const at::Tensor flat = random_parameters(config_, unit_of(config_), at::kFloat);
  for (const Documents& documents : {Documents{0, 9, 18, 27}, Documents{0, 7, 13, 27}}) {
    const at::Tensor input = randn(documents), dout = randn(documents);
    at::Tensor other_input = input.clone(), other_dout = dout.clone();
    const int64_t begin = documents[1], end = documents[2];
    other_input.narrow(0, begin, end - begin).normal_();
    other_dout.narrow(0, begin, end - begin).normal_();
    const Computed first = compute(config_, documents, flat, input, dout);
    const Computed second = compute(config_, documents, flat, other_input, other_dout);
    for (const auto& [from, to] : {std::pair(int64_t{0}, begin), std::pair(end, documents.back())}) {
      EXPECT_TRUE(first.out.narrow(0, from, to - from).equal(second.out.narrow(0, from, to - from)));
      EXPECT_TRUE(first.dinput.narrow(0, from, to - from).equal(second.dinput.narrow(0, from, to - from)));
    }
    EXPECT_FALSE(first.out.equal(second.out));
  }
}

TEST_P(Block, LeavesArgumentsAndGapsUnchanged) {
  const UnitLayout unit = unit_of(config_);
  const Documents documents = {0, 7, 8, 20, 25};
  const at::Tensor flat = random_parameters(config_, unit, at::kFloat), input = randn(documents),
                   dout = randn(documents);
  const at::Tensor flat_before = flat.clone(), input_before = input.clone(), dout_before = dout.clone();
  const Computed got = compute(config_, documents, flat, input, dout);
  EXPECT_TRUE(input.equal(input_before));
  EXPECT_TRUE(dout.equal(dout_before));
  EXPECT_TRUE(flat.nan_to_num(7).equal(flat_before.nan_to_num(7)));
  EXPECT_TRUE(got.gradients.isnan().equal(flat.isnan())) << "written: all parameters, and nothing else";
}

TEST(BlockTensors, AreViewsWithOneMatrixPerProduct) {
  ModelConfig config = small_config();
  config.has_qkv_bias = config.has_o_bias = config.has_mlp_bias = true;
  config.qk_norm = QkNorm::kHead;
  const UnitLayout unit = unit_of(config);
  const at::Tensor flat = random_parameters(config, unit, at::kFloat);
  const BlockTensors t = block_tensors(unit, flat);
  using Shape = std::vector<int64_t>;
  const std::pair<at::Tensor, Shape> expected[] = {{t.norms[BlockNorm::kBeforeAttention].weight_D, {36}},
                                                   {t.qkv_QD, {96, 36}},
                                                   {t.qkv_bias_Q, {96}},
                                                   {t.q_norm_K, {12}},
                                                   {t.k_norm_K, {12}},
                                                   {t.o_DO, {36, 48}},
                                                   {t.o_bias_D, {36}},
                                                   {t.norms[BlockNorm::kBeforeFeedForward].weight_D, {36}},
                                                   {t.gate_up_ED, {100, 36}},
                                                   {t.gate_up_bias_E, {100}},
                                                   {t.down_DF, {36, 50}},
                                                   {t.down_bias_D, {36}}};
  int64_t num_elements = 0;
  for (const auto& [tensor, shape] : expected) {
    EXPECT_EQ(tensor.sizes().vec(), shape);
    EXPECT_TRUE(tensor.is_contiguous());
    EXPECT_TRUE(tensor.is_alias_of(flat));
    EXPECT_TRUE(tensor.isfinite().all().item<bool>());
    num_elements += tensor.numel();
  }
  EXPECT_EQ(num_elements, num_parameters({unit}));
}

TEST(BlockTensors, AreUndefinedWhereAFamilyHasNone) {
  const UnitLayout unit = unit_of(small_config());
  const BlockTensors t = block_tensors(unit, random_parameters(small_config(), unit, at::kFloat));
  for (const at::Tensor& absent : {t.qkv_bias_Q, t.q_norm_K, t.k_norm_K, t.o_bias_D, t.gate_up_bias_E, t.down_bias_D,
                                   t.norms[BlockNorm::kAfterAttention].weight_D})
    EXPECT_FALSE(absent.defined());
}

}  // namespace
}  // namespace plumb
