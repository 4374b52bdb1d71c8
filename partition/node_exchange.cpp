#include "partition/node_exchange.hpp"

#include <ATen/ops/from_blob.h>

#include <algorithm>

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

}  // namespace

NodeExchange::NodeExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
                           const ExchangeOptions& options)
    : Exchange(std::move(plan)),
      comm_(comm),
      units_(units),
      options_(options),
      memory_(comm, this->plan().gather_buffer_bytes + this->plan().gradient_bytes * comm.node_size(comm.node())),
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

std::span<std::byte> NodeExchange::gather_part(int gather, int rank) const {
  const UnitOperation& operation = plan().gathers[gather];
  const int64_t shard_bytes =
      units_[operation.unit].shard_elements() * static_cast<int64_t>(at::elementSize(options_.dtype));
  return {memory_.data() + operation.buffer.offset_bytes + rank * shard_bytes, static_cast<size_t>(shard_bytes)};
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
  return flat;
}

void NodeExchange::start_reduce(int reduce) {
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

void NodeExchange::finish_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) {
  const UnitOperation& operation = plan().reduces[reduce];
  const ShardLayout& layout = units_[operation.unit];
  const int64_t shard = layout.shard_elements();
  const bool is_bfloat16 = gradient_dtype(operation) == at::kBFloat16;
  if (operation.is_in_place) {
    memory_.mine().reduces_consumed.fetch_add(1, std::memory_order_release);
    return;
  }
  const int me = comm_.rank(), my_node = comm_.node();
  {
    const UnitWait wait("reduce-scatter", operation);
    memory_.wait_for_all(&RankProgress::reduces_posted, memory_.mine().reduces_consumed.load() + 1);
  }
  const auto local_leaf = [&](int local, int owner) {
    return Summand{1, gradient_area(local) + operation.buffer.offset_bytes + owner * shard * (is_bfloat16 ? 2 : 4),
                   is_bfloat16};
  };

  // send this node's partial sums for the shards of remote ranks, and receive theirs for this rank's shard
  MessageBatch messages(comm_.mpi());
  size_t num_outgoing = 0, num_incoming = 0;
  const auto next_buffer = [shard](std::vector<std::vector<float>>& buffers, size_t& used, size_t groups) {
    if (used == buffers.size()) buffers.emplace_back();
    std::vector<float>& buffer = buffers[used++];
    if (buffer.size() < groups * shard) buffer.resize(groups * shard);
    return std::span(buffer).first(groups * shard);
  };
  for (int node = 0; node < comm_.num_nodes(); ++node) {
    if (node == my_node) continue;
    const auto buffer = next_buffer(incoming_, num_incoming, leaf_groups(node, accumulation).size());
    messages.receive(std::as_writable_bytes(buffer), helper_on(node, me), kReduceTag);
  }
  for_each_assigned_remote([&](int rank) {
    const auto groups = leaf_groups(my_node, accumulation);
    const auto buffer = next_buffer(outgoing_, num_outgoing, groups.size());
    for (size_t i = 0; i < groups.size(); ++i) {
      std::vector<Summand> leaves;
      for (int local = 0; local < groups[i].num_leaves; ++local)
        leaves.push_back(local_leaf(groups[i].first_local + local, rank));
      float* const sum = buffer.data() + static_cast<int64_t>(i) * shard;
      push_summands({&sum, 1}, 0, leaves, shard, true, options_.reduction);
    }
    messages.send(std::as_bytes(buffer), rank, kReduceTag);
  });
  messages.wait();

  std::vector<Summand> summands;
  num_incoming = 0;
  for (int node = 0; node < comm_.num_nodes(); ++node) {
    if (node == my_node) {
      for (int local = 0; local < comm_.node_size(node); ++local) summands.push_back(local_leaf(local, me));
    } else {
      const std::vector<float>& buffer = incoming_[num_incoming++];
      const auto groups = leaf_groups(node, accumulation);
      for (size_t i = 0; i < groups.size(); ++i)
        summands.push_back({groups[i].num_leaves, buffer.data() + static_cast<int64_t>(i) * shard, false});
    }
  }
  push_summands(levels, accumulation * comm_.size(), summands, shard, accumulation + 1 == options_.accumulation_steps,
                options_.reduction);
  memory_.mine().reduces_consumed.fetch_add(1, std::memory_order_release);
}

}  // namespace plumb
