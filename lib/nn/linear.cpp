#include "lib/nn/linear.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>

#include "lib/nn/matmul.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

at::Tensor dequantize(const QuantizedRows& matrix) {
  const at::Tensor out = matrix.scratch.narrow(0, 0, matrix.num_rows * matrix.num_columns);
  int64_t offset = 0;
  for (const Nf4View& layer : matrix.layers) {
    ops_of(out).nf4_dequantize(layer, 0, out.narrow(0, offset, layer.layout.num_elements));
    offset += layer.layout.num_elements;
  }
  return out.view({matrix.num_rows, matrix.num_columns});
}

at::Tensor columns(const at::Tensor& x, const LoraGroup::Module& module) {
  return x.narrow(1, module.first_output, module.num_outputs);
}

at::Tensor ranks(const at::Tensor& x, const LoraGroup::Module& module) {
  return x.narrow(1, module.first_rank, module.rank);
}

/// Norms of the rows of W + scaling B A, from |W|^2 + 2 s B . (W A^T) + s^2 (B A A^T) . B, so that B A is never formed.
at::Tensor row_norms(const at::Tensor& weight, const LoraGroup& lora, const LoraGroup::Module& module) {
  const at::Tensor a = lora.a_RI.narrow(0, module.first_rank, module.rank).to(at::kFloat);
  const at::Tensor b = module.b.to(at::kFloat);
  const at::Tensor rows = weight.narrow(0, module.first_output, module.num_outputs);
  const at::Tensor cross = at::mm(rows, lora.a_RI.narrow(0, module.first_rank, module.rank).t()).to(at::kFloat);
  const at::Tensor both = at::mm(b, at::mm(a, a.t()));
  return at::sqrt(module.squared_norms +
                  (b * (cross * (2 * module.scaling) + both * (module.scaling * module.scaling))).sum(1));
}

/// magnitude / norm, in the dtype of the activations.
at::Tensor row_scales(const at::Tensor& weight, const LoraGroup& lora, const LoraGroup::Module& module) {
  return (module.magnitude.to(at::kFloat) / row_norms(weight, lora, module)).to(weight.scalar_type());
}

bool has_magnitudes(const LoraGroup& lora) { return lora.modules.front().magnitude.defined(); }

}  // namespace

at::Tensor Linear::weight() const { return weight_OI.defined() ? weight_OI : dequantize(quantized); }

void set_row_scales(Linear& linear) {
  if (linear.lora.modules.empty() || !has_magnitudes(linear.lora)) return;
  const at::Tensor weight = linear.weight();
  for (LoraGroup::Module& module : linear.lora.modules) module.row_scales = row_scales(weight, linear.lora, module);
}

at::Tensor linear_forward(const Linear& linear, const at::Tensor& x_TI, const at::Tensor& residual_TO,
                          const Dropout& dropout, LinearActivations& saved) {
  const at::Tensor weight = linear.weight();
  const LoraGroup& lora = linear.lora;
  at::Tensor addend = residual_TO.defined() ? residual_TO : linear.bias_O;
  if (residual_TO.defined() && linear.bias_O.defined()) addend = residual_TO + linear.bias_O;
  at::Tensor y = at::empty({x_TI.size(0), weight.size(0)}, x_TI.options());
  if (addend.defined()) {
    matmul_plus(y, x_TI, weight.t(), addend);
  } else {
    matmul_into(y, x_TI, weight.t());
  }
  if (lora.modules.empty()) return y;
  const at::Tensor dropped = ops_of(x_TI).drop_out(x_TI, dropout);
  saved.xa_TR = product(dropped, lora.a_RI.t());
  for (const LoraGroup::Module& module : lora.modules) {
    at::Tensor part = columns(y, module);
    const at::Tensor xa = ranks(saved.xa_TR, module);
    if (!module.magnitude.defined()) {
      matmul_accumulate(part, xa, module.b.t(), module.scaling);
      continue;
    }
    at::Tensor base = part;
    if (dropout.rate > 0) {
      base = product(dropped, weight.narrow(0, module.first_output, module.num_outputs).t());
    } else if (addend.defined()) {
      base = part - addend.narrow(-1, module.first_output, module.num_outputs);
    }
    const at::Tensor direction = at::addmm(base, xa, module.b.t(), 1, module.scaling);
    part.add_(direction * row_scales(weight, lora, module) - base);
    saved.directions.push_back(direction);
  }
  return y;
}

void linear_recompute(const Linear& linear, const at::Tensor& x_TI, const Dropout& dropout, LinearActivations& saved) {
  const LoraGroup& lora = linear.lora;
  if (lora.modules.empty()) return;
  if (has_magnitudes(lora)) {
    linear_forward(linear, x_TI, {}, dropout, saved);
  } else {
    saved.xa_TR = product(ops_of(x_TI).drop_out(x_TI, dropout), lora.a_RI.t());
  }
}

LinearInputGradient linear_backward_input(const Linear& linear, const at::Tensor& dy_TO, const LinearActivations& saved,
                                          const Dropout& dropout, bool needs_dx, const LoraGroup* gradients) {
  const LoraGroup& lora = linear.lora;
  if (lora.modules.empty()) return {needs_dx ? product(dy_TO, linear.weight()) : at::Tensor(), {}};
  const at::Tensor weight = needs_dx || has_magnitudes(lora) ? linear.weight() : at::Tensor();
  at::Tensor dy = dy_TO;  // gradient of the directions
  if (has_magnitudes(lora)) {
    dy = dy_TO.clone();
    for (size_t i = 0; i < lora.modules.size(); ++i) {
      const LoraGroup::Module& module = lora.modules[i];
      at::Tensor part = columns(dy, module);
      at::Tensor dmagnitude = gradients->modules[i].magnitude;
      dmagnitude.copy_((part * saved.directions[i]).sum(0, false, at::kFloat) / row_norms(weight, lora, module));
      part.mul_(row_scales(weight, lora, module));
    }
  }
  LinearInputGradient result;
  result.g_TR = at::empty_like(saved.xa_TR);
  for (size_t i = 0; i < lora.modules.size(); ++i) {
    const LoraGroup::Module& module = lora.modules[i];
    const at::Tensor part = columns(dy, module);
    matmul_into(ranks(result.g_TR, module), part, module.b, module.scaling);
    matmul_into(gradients->modules[i].b, part.t(), ranks(saved.xa_TR, module), module.scaling);
  }
  if (!needs_dx) return result;
  if (dropout.rate == 0) {
    result.dx_TI = product(dy, weight);
    matmul_accumulate(result.dx_TI, result.g_TR, lora.a_RI);
    return result;
  }
  const at::Tensor through_mask = product(result.g_TR, lora.a_RI);
  if (has_magnitudes(lora)) {  // y = x W^T + scale * direction(dropped x) - dropped x W^T
    const at::Tensor rest = at::zeros_like(dy);
    for (const LoraGroup::Module& module : lora.modules)
      columns(rest, module).copy_(columns(dy, module) - columns(dy_TO, module));
    matmul_accumulate(through_mask, rest, weight);
  }
  result.dx_TI = product(dy_TO, weight).add_(ops_of(through_mask).drop_out(through_mask, dropout));
  return result;
}

void linear_backward_a(const LinearInputGradient& backward, const at::Tensor& x_TI, const Dropout& dropout,
                       const LoraGroup& gradients) {
  matmul_into(gradients.a_RI, backward.g_TR.t(), ops_of(x_TI).drop_out(x_TI, dropout));
}

PerProduct<LoraGroup> lora_groups(const ModelConfig& config, const Adapter& adapter, const UnitLayout& unit,
                                  int64_t layer, const at::Tensor& flat) {
  const auto view = [&](const Parameter& p) { return flat.narrow(0, p.offset, p.num_elements()).view(p.shape); };
  const std::vector<ParameterKind> matrices = block_matrices(config, layer);
  PerProduct<LoraGroup> groups;
  for (const LoraTarget& target : adapter.targets) {
    if (target.layer != layer || is_of_experts(target)) continue;
    LoraGroup& group = groups[product_of(target.kind)];
    LoraGroup::Module module{0, target_shape(config, target.kind)[0], 0, target.rank, target.scaling, {}, {}};
    for (const ParameterKind before : matrices) {  // modules that precede this one in the fused matrix
      if (before == target.kind) break;
      if (product_of(before) == product_of(target.kind)) module.first_output += target_shape(config, before)[0];
    }
    if (!group.modules.empty()) module.first_rank = group.modules.back().first_rank + group.modules.back().rank;
    for (const Parameter& p : unit.parameters) {
      if (p.kind != target.kind || p.layer != layer) continue;
      if (p.part == AdapterPart::kLoraB) module.b = view(p);
      if (p.part == AdapterPart::kMagnitude) module.magnitude = view(p);
      if (p.part != AdapterPart::kLoraA) continue;
      if (group.modules.empty()) {
        group.a_RI = view(p);
      } else {  // extend the view to the rows of the modules before, which precede it in memory
        const int64_t num_rows = module.first_rank + target.rank, num_columns = p.shape[1];
        group.a_RI = flat.narrow(0, p.offset - module.first_rank * num_columns, num_rows * num_columns)
                         .view({num_rows, num_columns});
      }
    }
    group.modules.push_back(std::move(module));
  }
  return groups;
}

}  // namespace plumb
