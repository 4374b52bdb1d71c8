#include "partition/frozen_base.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/nn/resident_units.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kByteAlignment = 64;
constexpr int64_t kChunkElements = 1 << 20;  // converted at a time

int64_t aligned(int64_t bytes) { return (bytes + kByteAlignment - 1) / kByteAlignment * kByteAlignment; }

bool is_trained_whole(const Adapter& adapter, const Parameter& p) {
  return std::find(adapter.whole.begin(), adapter.whole.end(), p.kind) != adapter.whole.end();
}

/// The units that a micro-batch gathers, in order.
std::vector<int> operation_order(const ModelConfig& config, int64_t lowest_layer) {
  std::vector<int> order;
  for (int64_t unit = 0; unit <= config.num_layers; ++unit) order.push_back(static_cast<int>(unit));
  order.push_back(config.shares_head() ? 0 : static_cast<int>(config.num_layers) + 1);
  for (int64_t layer = config.num_layers - 1; layer >= lowest_layer; --layer)
    order.push_back(static_cast<int>(layer) + 1);
  return order;
}

BufferPlan plan_gathers(const std::vector<int>& order, const std::vector<ShardLayout>& layouts, int num_forward) {
  BufferPlan plan;
  plan.num_forward_gathers = num_forward;
  plan.gradient_bytes = 0;
  std::vector<TimedBuffer> buffers;  // a gather is in progress while the unit before it is in use
  for (int64_t i = 0; i < std::ssize(order); ++i)
    buffers.push_back({layouts[order[i]].padded_elements(), std::max<int64_t>(i - 1, 0), i});
  plan.gather_buffer_bytes = place_buffers(buffers);
  for (size_t i = 0; i < order.size(); ++i)
    plan.gathers.push_back({order[i], {buffers[i].offset_bytes, buffers[i].bytes}});
  return plan;
}

/// The product that a matrix is a part of: one of each expert.
using MatrixKey = std::pair<Product, int64_t>;
MatrixKey key_of(const Parameter& p) { return {product_of(p.kind), p.expert}; }

/// Elements of the largest quantized product.
int64_t scratch_elements(const std::vector<FrozenUnit>& units) {
  int64_t most = 0;
  for (const FrozenUnit& unit : units) {
    std::map<MatrixKey, int64_t> elements;
    for (const FrozenUnit::Quantized& matrix : unit.quantized)
      most = std::max(most, elements[key_of(matrix.parameter)] += matrix.parameter.num_elements());
  }
  return most;
}

/// The unit's bytes divided among the ranks.
ShardLayout byte_layout(const FrozenUnit& unit, int num_ranks) {
  return {UnitLayout{unit.plain.name, {}, unit.num_bytes}, num_ranks};
}

/// Reads bytes [begin, end) of a unit into `out`; padding is set to zero.
void read_bytes(const FrozenUnit& unit, const FrozenSource& source, at::ScalarType dtype, int64_t begin, int64_t end,
                std::byte* out) {
  std::fill(out, out + (end - begin), std::byte{0});
  const auto element_bytes = static_cast<int64_t>(at::elementSize(dtype));
  const int64_t last = std::min(end / element_bytes, unit.plain.num_elements);
  std::vector<float> values;
  for (int64_t first = begin / element_bytes; first < last; first += kChunkElements) {
    values.resize(std::min(kChunkElements, last - first));
    source.read_plain(unit.plain, first, first + std::ssize(values), values);
    with_element_type(dtype, [&]<class T>(T*) {
      activation_kernels<T>().from_float(values.data(), reinterpret_cast<T*>(out + first * element_bytes - begin),
                                         std::ssize(values));
    });
  }
  std::vector<std::byte> matrix_bytes;
  for (const FrozenUnit::Quantized& matrix : unit.quantized) {
    const int64_t from = std::max(begin, matrix.offset_bytes);
    const int64_t to = std::min(end, matrix.offset_bytes + matrix.format.layout.num_bytes);
    if (from >= to) continue;
    const bool is_whole = to - from == matrix.format.layout.num_bytes;
    if (is_whole) {
      source.read_nf4(matrix.parameter, std::span(out + from - begin, to - from));
      continue;
    }
    matrix_bytes.resize(matrix.format.layout.num_bytes);
    source.read_nf4(matrix.parameter, matrix_bytes);
    std::copy(matrix_bytes.data() + (from - matrix.offset_bytes), matrix_bytes.data() + (to - matrix.offset_bytes),
              out + from - begin);
  }
}

}  // namespace

std::vector<FrozenUnit> frozen_units(const ModelConfig& config, const Adapter& adapter, int64_t element_bytes,
                                     const std::function<std::optional<Nf4Format>(const Parameter&)>& nf4_format) {
  std::vector<FrozenUnit> units;
  for (const UnitLayout& layout : unit_layouts(config)) {
    FrozenUnit& unit = units.emplace_back();
    unit.plain.name = layout.name;
    std::set<MatrixKey> is_plain;  // a product is in NF4 if all its parameters are
    for (const Parameter& p : layout.parameters)
      if (is_block_matrix(p.kind) && !nf4_format(p)) is_plain.insert(key_of(p));
    int64_t end_in_model = 0;  // end of the parameter before: parameters without a gap between them are one matrix
    for (const Parameter& p : layout.parameters) {
      const bool is_fused = p.offset == end_in_model;
      end_in_model = p.offset + p.num_elements();
      if (is_trained_whole(adapter, p)) continue;
      if (is_block_matrix(p.kind) && !is_plain.contains(key_of(p))) {
        unit.quantized.push_back({p, *nf4_format(p), 0});
        continue;
      }
      int64_t& size = unit.plain.num_elements;
      if (!is_fused) size = (size + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment;
      unit.plain.parameters.push_back(p);
      unit.plain.parameters.back().offset = size;
      size += p.num_elements();
    }
    unit.num_bytes = aligned(unit.plain.num_elements * element_bytes);
    for (FrozenUnit::Quantized& matrix : unit.quantized) {
      matrix.offset_bytes = unit.num_bytes;
      unit.num_bytes = aligned(unit.num_bytes + matrix.format.layout.num_bytes);
    }
  }
  return units;
}

std::optional<Nf4Format> nested_nf4(const Parameter& parameter) {
  if (!is_block_matrix(parameter.kind)) return std::nullopt;
  return Nf4Format{nf4_layout(parameter.num_elements(), true)};
}

FrozenBaseBytes frozen_base_bytes(const ModelConfig& config, const std::vector<FrozenUnit>& units, int num_ranks,
                                  bool is_one_node, int64_t element_bytes, int64_t lowest_layer) {
  FrozenBaseBytes bytes;
  bytes.scratch = scratch_elements(units) * element_bytes;
  std::vector<ShardLayout> layouts;
  for (const FrozenUnit& unit : units) {
    const ShardLayout& layout = layouts.emplace_back(byte_layout(unit, num_ranks));
    (is_one_node ? bytes.resident : bytes.shards) += is_one_node ? layout.padded_elements() : layout.shard_elements();
  }
  if (is_one_node) return bytes;
  const BufferPlan plan =
      plan_gathers(operation_order(config, lowest_layer), layouts, static_cast<int>(config.num_layers) + 2);
  bytes.gather_buffers = plan.gather_buffer_bytes;
  bytes.num_gathers = std::ssize(plan.gathers);
  for (const UnitOperation& gather : plan.gathers) bytes.gathered += gather.buffer.bytes;
  return bytes;
}

FrozenBase::FrozenBase(const ModelConfig& config, const Communicator& comm, at::ScalarType dtype,
                       std::vector<FrozenUnit> units, int64_t lowest_layer, const Placement& placement)
    : comm_(comm), dtype_(dtype), units_(std::move(units)), operations_(operation_order(config, lowest_layer)) {
  int64_t num_bytes = 0, shard_bytes = 0;
  for (const FrozenUnit& unit : units_) {
    const ShardLayout& layout = layouts_.emplace_back(byte_layout(unit, comm.size()));
    resident_offset_bytes_.push_back(num_bytes);
    offset_bytes_.push_back(shard_bytes);
    num_bytes += layout.padded_elements();
    shard_bytes += layout.shard_elements();
  }
  if (placement.shares_node_memory && comm.num_nodes() == 1) {
    resident_ = std::make_unique<NodeMemory>(comm, num_bytes);
  } else {
    shards_ = at::zeros({shard_bytes}, at::TensorOptions().dtype(at::kByte).device(placement.device));
    exchange_ = placement.make_exchange(comm, layouts_,
                                        plan_gathers(operations_, layouts_, static_cast<int>(config.num_layers) + 2),
                                        {.dtype = at::kByte});
  }
  if (const int64_t elements = scratch_elements(units_); elements > 0)
    scratch_ = at::empty({elements}, at::TensorOptions().dtype(dtype).device(placement.device));
}

at::Tensor FrozenBase::shard(size_t unit) const {
  const ElementRange mine = my_bytes(unit);
  if (exchange_) return shards_.narrow(0, offset_bytes_[unit], mine.size());
  return at::from_blob(resident_->data() + resident_offset_bytes_[unit] + mine.begin, {mine.size()},
                       at::TensorOptions().dtype(at::kByte));
}

void FrozenBase::load(const FrozenSource& source) {
  for (size_t unit = 0; unit < units_.size(); ++unit) {
    const ElementRange mine = my_bytes(unit);
    const at::Tensor kept = shard(unit);
    const at::Tensor read = kept.is_cpu() ? kept : at::empty({mine.size()}, at::TensorOptions().dtype(at::kByte));
    read_bytes(units_[unit], source, dtype_, mine.begin, mine.end, static_cast<std::byte*>(read.data_ptr()));
    if (!kept.is_cpu()) kept.copy_(read);
  }
}

void FrozenBase::start(int operation) {
  if (!exchange_ || operation >= std::ssize(operations_)) return;
  const at::Tensor mine = shard(operations_[operation]);
  exchange_->start_gather(operation, std::span(static_cast<const std::byte*>(mine.const_data_ptr()), mine.nbytes()));
}

at::Tensor FrozenBase::finish(int operation) {
  return exchange_ ? exchange_->finish_gather(operation) : resident_bytes(operations_[operation]);
}

void FrozenBase::make_resident() {
  if (resident_) return;
  resident_ = std::make_unique<NodeMemory>(comm_, num_bytes());
  const auto num_units = static_cast<int>(units_.size());  // the first operations are those of the units in order
  const int64_t num_parts = comm_.node_size(comm_.node()), part = comm_.local_index(comm_.rank());
  start(0);
  for (int unit = 0; unit < num_units; ++unit) {
    const at::Tensor bytes = finish(unit);
    if (unit + 1 < num_units) start(unit + 1);
    const int64_t begin = bytes.numel() * part / num_parts, end = bytes.numel() * (part + 1) / num_parts;
    std::copy_n(static_cast<const std::byte*>(bytes.data_ptr()) + begin, end - begin,
                resident_->data() + resident_offset_bytes_[unit] + begin);
    release();
  }
  comm_.barrier();
}

at::Tensor FrozenBase::resident_bytes(int unit) const {
  return at::from_blob(resident_->data() + resident_offset_bytes_[unit], {layouts_[unit].padded_elements()},
                       at::TensorOptions().dtype(at::kByte));
}

void FrozenBase::release() {
  if (exchange_) exchange_->release_gather();
}

at::Tensor FrozenBase::plain(int unit, const at::Tensor& bytes) const {
  return at::from_blob(bytes.data_ptr(), {units_[unit].plain.num_elements}, bytes.options().dtype(dtype_));
}

BlockParameters FrozenBase::block(int unit, const at::Tensor& bytes) const {
  const FrozenUnit& frozen = units_[unit];
  BlockParameters parameters(block_tensors(frozen.plain, plain(unit, bytes)));
  for (const FrozenUnit::Quantized& matrix : frozen.quantized) {
    const auto [product, expert] = key_of(matrix.parameter);
    QuantizedRows& rows = parameters.linear_of(product, expert).quantized;
    rows.layers.push_back({matrix.format.layout, static_cast<const std::byte*>(bytes.data_ptr()) + matrix.offset_bytes,
                           matrix.format.original_dtype});
    rows.num_rows += matrix.parameter.shape[0];
    rows.num_columns = matrix.parameter.shape[1];
    rows.scratch = scratch_;
  }
  return parameters;
}

HeadTensors FrozenBase::head(int unit, const at::Tensor& bytes) const {
  return head_tensors(units_[unit].plain, plain(unit, bytes));
}

at::Tensor FrozenBase::embedding_VD(const at::Tensor& bytes) const {
  return view_of(units_.front().plain, plain(0, bytes), ParameterKind::kEmbedding);
}

int64_t FrozenBase::num_bytes() const {
  int64_t bytes = 0;
  for (const ShardLayout& layout : layouts_) bytes += layout.padded_elements();
  return bytes;
}

}  // namespace plumb
