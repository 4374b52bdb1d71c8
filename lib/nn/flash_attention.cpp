#include "lib/nn/flash_attention.hpp"

#include <ATen/Context.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/empty.h>

#include <optional>
#include <string_view>

namespace plumb {

namespace {

// These operators are internal to LibTorch. If their schemas change, this must not compile: an argument in another
// place may convert. The forward pass ends as in LibTorch 2.11, or as in 2.15; what is added there has defaults.
constexpr std::string_view kForward = at::_ops::_flash_attention_forward::schema_str;
constexpr std::string_view kForwardBegin =
    "_flash_attention_forward(Tensor query, Tensor key, Tensor value, Tensor? cum_seq_q, Tensor? cum_seq_k, SymInt "
    "max_q, SymInt max_k, float dropout_p, bool is_causal, bool return_debug_mask, *, float? scale=None, SymInt? "
    "window_size_left=None, SymInt? window_size_right=None, Tensor? seqused_k=None, Tensor? alibi_slopes=None";
constexpr std::string_view kForwardEnd =
    ") -> (Tensor output, Tensor softmax_logsumexp, Tensor rng_state, Tensor unused, Tensor debug_attn_mask)";
constexpr std::string_view kMoreArguments = ", Tensor? block_table=None, int? num_splits=None";
static_assert(kForward.starts_with(kForwardBegin) && kForward.ends_with(kForwardEnd));
constexpr std::string_view kBetween =
    kForward.substr(kForwardBegin.size(), kForward.size() - kForwardBegin.size() - kForwardEnd.size());
static_assert(kBetween.empty() || kBetween == kMoreArguments);
static_assert(
    std::string_view(at::_ops::_flash_attention_backward::schema_str) ==
    "_flash_attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, "
    "Tensor cum_seq_q, Tensor cum_seq_k, SymInt max_q, SymInt max_k, float dropout_p, bool is_causal, Tensor "
    "rng_state, Tensor unused, *, float? scale=None, SymInt? window_size_left=None, SymInt? window_size_right=None) -> "
    "(Tensor, Tensor, Tensor)");

/// While it exists, operators of LibTorch have deterministic algorithms. Only around one call: elsewhere this setting
/// fills every new tensor, and operators without such an algorithm throw.
class Deterministic {
 public:
  Deterministic()
      : was_(at::globalContext().deterministicAlgorithms()),
        warned_(at::globalContext().deterministicAlgorithmsWarnOnly()),
        filled_(at::globalContext().deterministicFillUninitializedMemory()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
  ~Deterministic() {
    at::globalContext().setDeterministicAlgorithms(was_, warned_);
    at::globalContext().setDeterministicFillUninitializedMemory(filled_);
  }
  Deterministic(const Deterministic&) = delete;
  Deterministic& operator=(const Deterministic&) = delete;

 private:
  bool was_, warned_, filled_;
};

/// Keys before a query that it sees, besides itself.
std::optional<c10::SymInt> window_left(const FlashInput& input) {
  return input.window == 0 ? std::nullopt : std::optional<c10::SymInt>(input.window - 1);
}
std::optional<c10::SymInt> window_right(const FlashInput& input) {
  return input.window == 0 ? std::nullopt : std::optional<c10::SymInt>(0);
}

}  // namespace

FlashOutput flash_forward(const FlashInput& input) {
  auto [out, log_sum_exp, random_state, unused, mask] = at::_flash_attention_forward_symint(
      input.q_THK, input.k_SGK, input.v_SGK, input.query_begin, input.key_begin, input.most_queries, input.most_keys,
      /*dropout_p=*/0, /*is_causal=*/true, /*return_debug_mask=*/false, input.scale, window_left(input),
      window_right(input));
  return {out, log_sum_exp};
}

FlashGradients flash_backward(const FlashInput& input, const FlashOutput& output, const at::Tensor& dout_THK) {
  const Deterministic deterministic;
  // of dropout, which there is none of
  const at::Tensor random_state = at::empty({2}, input.q_THK.options().dtype(at::kUInt64)),
                   unused = at::empty({}, input.q_THK.options().dtype(at::kUInt64));
  auto [dq, dk, dv] = at::_flash_attention_backward_symint(
      dout_THK, input.q_THK, input.k_SGK, input.v_SGK, output.out_THK, output.log_sum_exp_HT, input.query_begin,
      input.key_begin, input.most_queries, input.most_keys, /*dropout_p=*/0, /*is_causal=*/true, random_state, unused,
      input.scale, window_left(input), window_right(input));
  return {dq, dk, dv};
}

}  // namespace plumb
