#include "partition/host_exchange.hpp"

#include <utility>

#include "lib/base/check.hpp"

namespace plumb {

HostExchange::HostExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
                           const ExchangeOptions& options, const ComputeDevice& compute)
    : Exchange(std::move(plan)),
      units_(units),
      accumulation_steps_(options.accumulation_steps),
      compute_(compute),
      host_(comm, units, this->plan(), options),
      memory_(this->plan().gather_buffer_bytes + this->plan().gradient_bytes, "gathered units and gradients"),
      levels_(this->plan().reduces.size()) {
  check(comm.size() > 1, "a single rank has no exchange in the memory of the host");
  const int64_t num_levels = max_open_subtrees(comm.size(), options.accumulation_steps, options.reduction);
  for (size_t reduce = 0; reduce < levels_.size(); ++reduce) {
    HostLevels& host = levels_[reduce];
    const int64_t elements = units_[this->plan().reduces[reduce].unit].shard_elements();
    host.memory.assign(num_levels, std::vector<float>(elements));
    for (std::vector<float>& level : host.memory) host.levels.push_back(level.data());
  }
}

std::byte* HostExchange::gradient_data(const UnitOperation& operation) const {
  return memory_.data() + plan().gather_buffer_bytes + operation.buffer.offset_bytes;
}

void HostExchange::start_gather(int gather, std::span<const float> master_shard) {
  notify(CollectiveRecord::Kind::kGather, plan().gathers[gather]);
  shard_.resize(master_shard.size_bytes());
  transfer_.to_host(shard_, std::as_bytes(master_shard).data(), compute_.stream);
  host_.start_gather(gather, std::span(reinterpret_cast<const float*>(shard_.data()), master_shard.size()));
}

void HostExchange::start_gather(int gather, std::span<const std::byte> shard) {
  notify(CollectiveRecord::Kind::kGather, plan().gathers[gather]);
  shard_.resize(shard.size());
  transfer_.to_host(shard_, shard.data(), compute_.stream);
  host_.start_gather(gather, std::span<const std::byte>(shard_));
}

at::Tensor HostExchange::finish_gather(int gather) {
  const at::Tensor whole = host_.finish_gather(gather);
  std::byte* const data = memory_.data() + plan().gathers[gather].buffer.offset_bytes;
  transfer_.to_device(data, std::span(static_cast<const std::byte*>(whole.data_ptr()), whole.nbytes()),
                      compute_.stream);
  host_.release_gather();
  return compute_.tensor(data, whole.numel(), whole.scalar_type());
}

at::Tensor HostExchange::gradient_buffer(int reduce) {
  const UnitOperation& operation = plan().reduces[reduce];
  return gradient_tensor(gradient_data(operation), operation, units_[operation.unit], compute_);
}

void HostExchange::start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) {
  const UnitOperation& operation = plan().reduces[reduce];
  notify(CollectiveRecord::Kind::kReduceScatter, operation);
  const at::Tensor gradient = host_.gradient_buffer(reduce);
  transfer_.to_host(std::span(static_cast<std::byte*>(gradient.data_ptr()), gradient.nbytes()),
                    gradient_data(operation), compute_.stream);
  levels_[reduce].target = levels.front();
  levels_[reduce].accumulation = accumulation;
  host_.start_reduce(reduce, accumulation, levels_[reduce].levels);
}

void HostExchange::finish_reduce(int reduce) {
  host_.finish_reduce(reduce);
  const HostLevels& host = levels_[reduce];
  if (host.accumulation + 1 < accumulation_steps_) return;
  transfer_.to_device(reinterpret_cast<std::byte*>(host.target), std::as_bytes(std::span(host.memory.front())),
                      compute_.stream);
}

}  // namespace plumb
