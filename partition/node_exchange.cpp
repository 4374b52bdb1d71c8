#include "partition/node_exchange.hpp"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <utility>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int kGatherTag = 1, kReduceTag = 2;

struct UnitWait : WatchedOperation {
  UnitWait(const char* what, const UnitOperation& operation)
      : WatchedOperation(what, OperationKind::kCollective, operation.unit, operation.buffer.bytes) {}
};

/// The first elements of a buffer, which grows and is reused by the next unit.
std::span<float> first_of(std::vector<float>& buffer, int64_t elements) {
  if (std::ssize(buffer) < elements) buffer.resize(elements);
  return std::span(buffer).first(elements);
}

}  // namespace

std::unique_ptr<Exchange> make_node_exchange(const Communicator& comm, const std::vector<ShardLayout>& units,
                                             BufferPlan plan, const ExchangeOptions& options) {
  return std::make_unique<NodeExchange>(comm, units, std::move(plan), options);
}

NodeExchange::NodeExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
                           const ExchangeOptions& options)
    : Exchange(std::move(plan)),
      comm_(comm),
      units_(units),
      options_(options),
      memory_(comm, this->plan().gather_buffer_bytes + this->plan().gradient_bytes * comm.node_size(comm.node())),
      written_in_level_(this->plan().reduces.size()),
      outgoing_(comm.size()),
      incoming_(comm.num_nodes()),
      masters_(units.size()),
      is_converted_(units.size(), false) {}

// The rank on `node` that exchanges data with remote rank `rank`: the one with the same local index, modulo the node's
// size.
int NodeExchange::helper_on(int node, int rank) const {
  return comm_.node_begin(node) + comm_.local_index(rank) % comm_.node_size(node);
}

void NodeExchange::for_each_assigned_remote(const std::function<void(int rank)>& body) const {
  for (int rank = 0; rank < comm_.size(); ++rank)
    if (comm_.node_of(rank) != comm_.node() && helper_on(comm_.node(), rank) == comm_.rank()) body(rank);
}

std::byte* NodeExchange::gradient_area(int local_index) const {
  return memory_.data() + plan().gather_buffer_bytes + local_index * plan().gradient_bytes;
}

at::Tensor NodeExchange::tensor_at(std::byte* data, int64_t elements, at::ScalarType dtype) const {
  return at::from_blob(data, {elements}, at::TensorOptions().dtype(dtype));
}

at::ScalarType NodeExchange::gradient_dtype(const UnitOperation& operation) const {
  const int64_t elements = units_[operation.unit].padded_elements();
  return operation.buffer.bytes == elements * 4 ? at::kFloat : at::kBFloat16;
}

uint8_t* NodeExchange::row_flags(const UnitOperation& operation, int local_index) const {
  std::byte* const gradient = gradient_area(local_index) + operation.buffer.offset_bytes;
  return reinterpret_cast<uint8_t*>(gradient + operation.buffer.bytes);
}

std::span<std::byte> NodeExchange::gather_part(int gather, int rank) const {
  const UnitOperation& operation = plan().gathers[gather];
  const int64_t shard_bytes =
      units_[operation.unit].shard_elements() * static_cast<int64_t>(at::elementSize(options_.dtype));
  return std::span(memory_.data() + operation.buffer.offset_bytes + rank * shard_bytes, shard_bytes);
}

void NodeExchange::wait_for_buffer(int gather) {
  notify(CollectiveRecord::Kind::kGather, plan().gathers[gather]);
  // the buffer is free once every rank of the node has released as many gathers as this rank
  const UnitWait wait("a buffer to gather into", plan().gathers[gather]);
  memory_.wait_for_all(&RankProgress::gathers_released, memory_.mine().gathers_released.load());
}

void NodeExchange::post_gather(int gather) {
  MessageBatch& messages = gather_messages_.emplace_back(comm_.mpi());
  for_each_assigned_remote([&](int rank) { messages.receive(gather_part(gather, rank), rank, kGatherTag); });
  for (int node = 0; node < comm_.num_nodes(); ++node)
    if (node != comm_.node())
      messages.send(gather_part(gather, comm_.rank()), helper_on(node, comm_.rank()), kGatherTag);
  if (comm_.num_nodes() == 1) {
    gather_messages_.pop_back();
    memory_.mine().gathers_posted.fetch_add(1, std::memory_order_release);
  }
}

void NodeExchange::start_gather(int gather, std::span<const float> master_shard) {
  wait_for_buffer(gather);
  const UnitOperation& operation = plan().gathers[gather];
  const int unit = operation.unit;
  masters_[unit] = master_shard.data();
  if (!operation.is_in_place && !is_converted_[unit])
    with_element_type(options_.dtype, [&]<class T>(T*) {
      activation_kernels<T>().from_float(master_shard.data(),
                                         reinterpret_cast<T*>(gather_part(gather, comm_.rank()).data()),
                                         std::ssize(master_shard));
    });
  is_converted_[unit] = options_.keeps_converted;
  post_gather(gather);
}

void NodeExchange::start_gather(int gather, std::span<const std::byte> shard) {
  wait_for_buffer(gather);
  std::copy(shard.begin(), shard.end(), gather_part(gather, comm_.rank()).begin());
  post_gather(gather);
}

at::Tensor NodeExchange::finish_gather(int gather) {
  const UnitOperation& operation = plan().gathers[gather];
  const UnitWait wait("gather", operation);
  if (!gather_messages_.empty()) {
    gather_messages_.front().wait();
    gather_messages_.pop_front();
    memory_.mine().gathers_posted.fetch_add(1, std::memory_order_release);
  }
  memory_.wait_for_all(&RankProgress::gathers_posted, memory_.mine().gathers_released.load() + 1);
  const int unit = operation.unit;
  std::byte* const data = operation.is_in_place ? reinterpret_cast<std::byte*>(const_cast<float*>(masters_[unit]))
                                                : memory_.data() + operation.buffer.offset_bytes;
  return tensor_at(data, units_[unit].padded_elements(), options_.dtype);
}

void NodeExchange::release_gather() { memory_.mine().gathers_released.fetch_add(1, std::memory_order_release); }

at::Tensor NodeExchange::gradient_buffer(int reduce) {
  const UnitOperation& operation = plan().reduces[reduce];
  const ShardLayout& layout = units_[operation.unit];
  // peers may still read the buffer's previous contents: wait until they have finished as many reductions as this rank
  {
    const UnitWait wait("a buffer for the gradient", operation);
    memory_.wait_for_all(&RankProgress::reduces_consumed, memory_.mine().reduces_consumed.load());
  }
  at::Tensor flat = tensor_at(gradient_area(comm_.local_index(comm_.rank())) + operation.buffer.offset_bytes,
                              layout.padded_elements(), gradient_dtype(operation));
  for (const ElementRange& gap : layout.gaps()) flat.narrow(0, gap.begin, gap.size()).zero_();
  if (operation.num_rows > 0) std::fill_n(row_flags(operation, comm_.local_index(comm_.rank())), operation.num_rows, 1);
  return flat;
}

at::Tensor NodeExchange::gradient_rows(int reduce, std::span<const int64_t> rows) {
  const UnitOperation& operation = plan().reduces[reduce];
  const at::Tensor flat = gradient_buffer(reduce);
  if (operation.num_rows == 0) return flat.zero_();
  uint8_t* const flags = row_flags(operation, comm_.local_index(comm_.rank()));
  std::fill_n(flags, operation.num_rows, 0);
  for (const int64_t row : rows) {
    check(row >= 0 && row < operation.num_rows, "a row of the embedding");
    if (std::exchange(flags[row], 1) == 0)
      std::fill_n(flat.data_ptr<float>() + row * operation.row_elements, operation.row_elements, 0.0f);
  }
  return flat;
}

std::optional<LeafInLevel> NodeExchange::gradient_in_level(int reduce, int64_t accumulation, size_t num_levels,
                                                           bool may_add) {
  const UnitOperation& operation = plan().reduces[reduce];
  if (comm_.size() > 1 || options_.reduction == Reduction::kFast || operation.num_rows > 0 ||
      gradient_dtype(operation) != at::kFloat)
    return std::nullopt;
  written_in_level_[reduce] = leaf_in_level(accumulation, num_levels, may_add);
  return written_in_level_[reduce];
}

void NodeExchange::start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) {
  started_reduces_.push_back({accumulation, levels});
  notify(CollectiveRecord::Kind::kReduceScatter, plan().reduces[reduce]);
  memory_.mine().reduces_posted.fetch_add(1, std::memory_order_release);
}

std::vector<NodeExchange::LeafGroup> NodeExchange::leaf_groups(int node, int64_t accumulation) const {
  const int64_t begin = accumulation * comm_.size() + comm_.node_begin(node);
  if (options_.reduction == Reduction::kFast) return {{comm_.node_size(node), 0}};
  std::vector<LeafGroup> groups;
  int local = 0;
  for (int64_t size : aligned_subtrees(begin, begin + comm_.node_size(node))) {
    groups.push_back({size, local});
    local += static_cast<int>(size);
  }
  return groups;
}

Summand NodeExchange::leaf(const UnitOperation& operation, int local_index, int owner) const {
  const bool is_bfloat16 = gradient_dtype(operation) == at::kBFloat16;
  const int64_t shard_bytes = units_[operation.unit].shard_elements() * (is_bfloat16 ? 2 : 4);
  return {1, gradient_area(local_index) + operation.buffer.offset_bytes + owner * shard_bytes, is_bfloat16,
          operation.num_rows > 0 ? row_flags(operation, local_index) : nullptr};
}

void NodeExchange::push(const UnitOperation& operation, int owner, std::span<float* const> levels,
                        std::span<std::vector<uint8_t>> level_has_row, int64_t leaves_before,
                        std::span<const Summand> summands, bool is_last) const {
  const ElementRange shard = units_[operation.unit].shard(owner);
  if (operation.num_rows == 0)
    return push_summands(levels, leaves_before, summands, shard.size(), is_last, options_.reduction);
  push_rows(levels, level_has_row, leaves_before, summands,
            {shard.begin, shard.end, operation.row_elements, operation.num_rows}, is_last, options_.reduction);
}

void NodeExchange::exchange_node_sums(const UnitOperation& operation, int64_t accumulation) {
  const int64_t shard = units_[operation.unit].shard_elements();
  MessageBatch messages(comm_.mpi());
  for (int node = 0; node < comm_.num_nodes(); ++node) {
    if (node == comm_.node()) continue;
    const std::span<float> sums = first_of(incoming_[node], std::ssize(leaf_groups(node, accumulation)) * shard);
    messages.receive(std::as_writable_bytes(sums), helper_on(node, comm_.rank()), kReduceTag);
  }
  for_each_assigned_remote([&](int rank) {
    const std::vector<LeafGroup> groups = leaf_groups(comm_.node(), accumulation);
    const std::span<float> sums = first_of(outgoing_[rank], std::ssize(groups) * shard);
    float* sum = sums.data();
    for (const LeafGroup& group : groups) {
      std::vector<Summand> leaves;
      for (int local = 0; local < group.num_leaves; ++local)
        leaves.push_back(leaf(operation, group.first_local + local, rank));
      std::vector<uint8_t> has_row(operation.num_rows);
      push(operation, rank, {&sum, 1}, {&has_row, 1}, 0, leaves, true);
      sum += shard;
    }
    messages.send(std::as_bytes(sums), rank, kReduceTag);
  });
  messages.wait();
}

std::vector<Summand> NodeExchange::summands_of_mine(const UnitOperation& operation, int64_t accumulation) const {
  const int64_t shard = units_[operation.unit].shard_elements();
  std::vector<Summand> summands;
  for (int node = 0; node < comm_.num_nodes(); ++node) {
    if (node == comm_.node()) {
      for (int local = 0; local < comm_.node_size(node); ++local)
        summands.push_back(leaf(operation, local, comm_.rank()));
      continue;
    }
    const float* sum = incoming_[node].data();
    for (const LeafGroup& group : leaf_groups(node, accumulation)) {
      summands.push_back({group.num_leaves, sum, false});
      sum += shard;
    }
  }
  return summands;
}

void NodeExchange::finish_reduce(int reduce) {
  const UnitOperation& operation = plan().reduces[reduce];
  const auto [accumulation, levels] = started_reduces_.front();
  started_reduces_.pop_front();
  const bool is_last = accumulation + 1 == options_.accumulation_steps;
  if (!operation.is_in_place) {
    {
      const UnitWait wait("reduce-scatter", operation);
      memory_.wait_for_all(&RankProgress::reduces_posted, memory_.mine().reduces_consumed.load() + 1);
    }
    exchange_node_sums(operation, accumulation);
    if (const auto written = std::exchange(written_in_level_[reduce], std::nullopt)) {
      const Summand summand = written->summand(levels);
      push(operation, comm_.rank(), levels, {}, accumulation + 1 - summand.num_leaves, {&summand, 1}, is_last);
    } else {
      if (operation.num_rows > 0) level_has_row_.resize(levels.size(), std::vector<uint8_t>(operation.num_rows));
      push(operation, comm_.rank(), levels, level_has_row_, accumulation * comm_.size(),
           summands_of_mine(operation, accumulation), is_last);
    }
  }
  memory_.mine().reduces_consumed.fetch_add(1, std::memory_order_release);
}

}  // namespace plumb
