#include "partition/nccl_exchange.hpp"

#include <algorithm>
#include <bit>
#include <exception>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/kernels/cuda/kernels.hpp"
#include "partition/subtree_sums.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxLeaves = int64_t{1} << cuda::kMaxSubtreeLevel;

void copy(std::byte* to, const void* from, int64_t bytes, cudaStream_t stream) {
  check_cuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream), "copy a shard");
}

bool overlap(const Buffer& a, const Buffer& b) {
  return a.offset_bytes < b.offset_bytes + b.bytes && b.offset_bytes < a.offset_bytes + a.bytes;
}

}  // namespace

NcclExchange::NcclExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
                           const ExchangeOptions& options, const ComputeDevice& compute, int64_t max_receive_bytes)
    : Exchange(std::move(plan)),
      comm_(comm),
      units_(units),
      options_(options),
      compute_(compute),
      max_receive_bytes_(max_receive_bytes),
      wire_(Priority::kHigh),
      sums_(Priority::kLow),
      gathered_(this->plan().gathers.size()),
      consumed_(this->plan().reduces.size()),
      masters_(units.size()),
      is_converted_(units.size(), false) {
  place_receive_buffer();
  const int64_t bytes = this->plan().gather_buffer_bytes + this->plan().gradient_bytes + receive_bytes_ +
                        num_scratch_levels() * scratch_elements_ * 4;
  if (comm.size() == 1) {
    own_memory_.emplace(bytes, "converted parameters and gradients");
    data_ = own_memory_->data();
  } else {
    nccl_.emplace(comm);
    window_.emplace(comm, *nccl_, bytes);
    data_ = window_->data();
  }
}

NcclExchange::~NcclExchange() {
  try {
    if (nccl_ && std::uncaught_exceptions() > 0) nccl_->abort();
    if (nccl_ && !nccl_->is_aborted()) nccl_->wait();
    check_cuda(cudaStreamSynchronize(compute_.stream), "complete its work");
    wire_.synchronize();
    sums_.synchronize();
  } catch (const std::exception& error) {
    log_error("{}", error.what());
    if (nccl_) nccl_->abort();
  }
}

void NcclExchange::place_receive_buffer() {
  if (comm_.size() == 1 || options_.reduction == Reduction::kFast) return;
  for (const UnitOperation& operation : plan().reduces) {
    const int64_t elements = elements_at_once(operation);
    receive_bytes_ = std::max(receive_bytes_, elements * gradient_element_bytes(operation) * comm_.size());
    scratch_elements_ = std::max(scratch_elements_, elements);
  }
}

int NcclExchange::num_scratch_levels() const {
  const int64_t kept = max_open_subtrees(comm_.size(), options_.accumulation_steps, options_.reduction);
  const int used = num_step_levels(comm_.size(), options_.accumulation_steps, options_.reduction, kMaxLeaves);
  return std::max(used - static_cast<int>(kept), 0);
}

std::byte* NcclExchange::gradient_data(const UnitOperation& operation) const {
  return data_ + plan().gather_buffer_bytes + operation.buffer.offset_bytes;
}

int64_t NcclExchange::gradient_element_bytes(const UnitOperation& reduce) const {
  return element_bytes_of(reduce, units_[reduce.unit]);
}

int64_t NcclExchange::shard_bytes(const UnitOperation& operation) const {
  return operation.buffer.bytes / comm_.size();
}

int64_t NcclExchange::elements_at_once(const UnitOperation& operation) const {
  return piece_elements(units_[operation.unit].shard_elements(), gradient_element_bytes(operation), comm_.size(),
                        max_receive_bytes_);
}

std::byte* NcclExchange::gather_part(int gather, int rank) const {
  const UnitOperation& operation = plan().gathers[gather];
  return data_ + operation.buffer.offset_bytes + rank * shard_bytes(operation);
}

// The event on the compute stream also stands for the release of the unit that the buffer held before: its release came
// before this call.
void NcclExchange::post_gather(int gather) {
  const UnitOperation& operation = plan().gathers[gather];
  notify(CollectiveRecord::Kind::kGather, operation);
  if (!nccl_) return;
  converted_.record(compute_.stream);
  converted_.hold(wire_.get());
  nccl_->enqueue({"gather", operation.unit, operation.buffer.bytes}, wire_.get(), [&] {
    return ncclAllGather(gather_part(gather, comm_.rank()), gather_part(gather, 0),
                         static_cast<size_t>(shard_bytes(operation)), ncclUint8, nccl_->get(), wire_.get());
  });
  gathered_[gather].record(wire_.get());
}

void NcclExchange::start_gather(int gather, std::span<const float> master_shard) {
  const UnitOperation& operation = plan().gathers[gather];
  std::byte* const part = gather_part(gather, comm_.rank());
  masters_[operation.unit] = master_shard.data();
  if (!operation.is_in_place && !is_converted_[operation.unit]) {
    if (options_.dtype == at::kBFloat16)
      cuda::from_float(master_shard.data(), reinterpret_cast<BFloat16*>(part), std::ssize(master_shard),
                       compute_.stream);
    else
      copy(part, master_shard.data(), shard_bytes(operation), compute_.stream);
  }
  is_converted_[operation.unit] = options_.keeps_converted;
  post_gather(gather);
}

void NcclExchange::start_gather(int gather, std::span<const std::byte> shard) {
  copy(gather_part(gather, comm_.rank()), shard.data(), std::ssize(shard), compute_.stream);
  post_gather(gather);
}

at::Tensor NcclExchange::finish_gather(int gather) {
  const UnitOperation& operation = plan().gathers[gather];
  gathered_[gather].hold(compute_.stream);
  std::byte* const data = operation.is_in_place
                              ? reinterpret_cast<std::byte*>(const_cast<float*>(masters_[operation.unit]))
                              : gather_part(gather, 0);
  return compute_.tensor(data, units_[operation.unit].padded_elements(), options_.dtype);
}

at::Tensor NcclExchange::gradient_buffer(int reduce) {
  const UnitOperation& operation = plan().reduces[reduce];
  // the newest gradient that was in these bytes is read last
  const auto before = std::find_if(started_.begin(), started_.end(),
                                   [&](int other) { return overlap(plan().reduces[other].buffer, operation.buffer); });
  if (before != started_.end()) consumed_[*before].hold(compute_.stream);
  return gradient_tensor(gradient_data(operation), operation, units_[operation.unit], compute_);
}

void NcclExchange::start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) {
  const UnitOperation& operation = plan().reduces[reduce];
  notify(CollectiveRecord::Kind::kReduceScatter, operation);
  accumulation_ = accumulation;
  if (operation.is_in_place) return;
  const Reduce started = {operation, accumulation, levels};
  std::erase(started_, reduce);
  started_.push_front(reduce);
  ready_.record(compute_.stream);
  if (!nccl_) {
    ready_.hold(sums_.get());
    add(started, {0, units_[operation.unit].shard_elements(), gradient_data(operation), 0}, 1);
    consumed_[reduce].record(sums_.get());
    return;
  }
  ready_.hold(wire_.get());
  if (options_.reduction == Reduction::kFast) {
    reduce_fast(started);
    consumed_[reduce].record(sums_.get());
  } else {
    reduce_in_order(started);
    consumed_[reduce].record(wire_.get());
  }
}

void NcclExchange::reduce_in_order(const Reduce& reduce) {
  const int64_t elements = units_[reduce.operation.unit].shard_elements();
  const int64_t at_once = elements_at_once(reduce.operation);
  const std::byte* const received = data_ + plan().gather_buffer_bytes + plan().gradient_bytes;
  for (int64_t begin = 0; begin < elements; begin += at_once) {
    const int64_t size = std::min(at_once, elements - begin);
    const Piece piece = {begin, size, received, size * gradient_element_bytes(reduce.operation)};
    summed_.hold(wire_.get());  // the piece before has been read
    send_slices(reduce, piece);
    received_.record(wire_.get());
    received_.hold(sums_.get());
    add(reduce, piece, comm_.size());
  }
}

void NcclExchange::send_slices(const Reduce& reduce, const Piece& piece) {
  const auto bytes = static_cast<size_t>(piece.leaf_stride_bytes);
  const std::byte* const first =
      gradient_data(reduce.operation) + piece.begin * gradient_element_bytes(reduce.operation);
  nccl_->enqueue(
      {"exchange of gradients", reduce.operation.unit, piece.leaf_stride_bytes * comm_.size()}, wire_.get(), [&] {
        ncclResult_t result = ncclGroupStart();
        for (int rank = 0; rank < comm_.size() && result == ncclSuccess; ++rank) {
          result =
              ncclSend(first + rank * shard_bytes(reduce.operation), bytes, ncclUint8, rank, nccl_->get(), wire_.get());
          if (result != ncclSuccess) break;
          result = ncclRecv(const_cast<std::byte*>(piece.leaves) + rank * piece.leaf_stride_bytes, bytes, ncclUint8,
                            rank, nccl_->get(), wire_.get());
        }
        const ncclResult_t end = ncclGroupEnd();
        return result == ncclSuccess ? end : result;
      });
}

void NcclExchange::reduce_fast(const Reduce& reduce) {
  const int64_t elements = units_[reduce.operation.unit].shard_elements();
  const ncclDataType_t type = gradient_element_bytes(reduce.operation) == 4 ? ncclFloat32 : ncclBfloat16;
  std::byte* const gradient = gradient_data(reduce.operation);
  std::byte* const mine = gradient + comm_.rank() * shard_bytes(reduce.operation);
  nccl_->enqueue({"reduce-scatter", reduce.operation.unit, reduce.operation.buffer.bytes}, wire_.get(), [&] {
    return ncclReduceScatter(gradient, mine, static_cast<size_t>(elements), type, ncclSum, nccl_->get(), wire_.get());
  });
  received_.record(wire_.get());
  received_.hold(sums_.get());
  add(reduce, {0, elements, mine, 0}, 1);
}

void NcclExchange::add(const Reduce& reduce, const Piece& piece, int64_t num_leaves) {
  float* const scratch =
      reinterpret_cast<float*>(data_ + plan().gather_buffer_bytes + plan().gradient_bytes + receive_bytes_);
  const auto level = [&](int index) {
    const auto kept = static_cast<int>(reduce.levels.size());
    return index < kept ? reduce.levels[index] + piece.begin : scratch + (index - kept) * scratch_elements_;
  };
  const bool is_last = reduce.accumulation + 1 == options_.accumulation_steps;
  for (const SubtreeStep& step :
       subtree_steps(reduce.accumulation * num_leaves, num_leaves, is_last, options_.reduction, kMaxLeaves)) {
    cuda::SubtreeSum sum = {};
    sum.level = std::countr_zero(static_cast<uint64_t>(step.num_leaves));
    sum.is_bfloat16 = gradient_element_bytes(reduce.operation) == 2;
    for (int64_t leaf = 0; leaf < step.num_leaves; ++leaf)
      sum.leaves[leaf] = piece.leaves + (step.first_leaf + leaf) * piece.leaf_stride_bytes;
    for (const int open : step.open) sum.open[sum.num_open++] = level(open);
    sum.out = level(step.out);
    cuda::add_subtree(sum, piece.size, sums_.get());
  }
  summed_.record(sums_.get());
}

void NcclExchange::finish_reduce(int reduce) {
  const bool is_last = reduce + 1 == std::ssize(plan().reduces) && accumulation_ + 1 == options_.accumulation_steps;
  if (!is_last) return;
  summed_.hold(compute_.stream);
  if (nccl_) nccl_->wait();  // once per update, where the host reads the norm next: an error of NCCL ends here
}

}  // namespace plumb
