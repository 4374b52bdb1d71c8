// An exchange whose caller computes with CPU operators on memory of the fake: the fake hears when the caller reads a
// gathered unit and writes a gradient, as kernels on the compute stream would.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "partition/exchange.hpp"
#include "tests/cuda_fake/fake.hpp"

namespace plumb::fake {

class TouchingExchange : public Exchange {
 public:
  explicit TouchingExchange(std::unique_ptr<Exchange> inner) : Exchange(inner->plan()), inner_(std::move(inner)) {}

  void start_gather(int gather, std::span<const float> master_shard) override {
    inner_->start_gather(gather, master_shard);
  }
  void start_gather(int gather, std::span<const std::byte> shard) override { inner_->start_gather(gather, shard); }
  at::Tensor finish_gather(int gather) override {
    const std::string name = "unit " + std::to_string(plan().gathers[gather].unit) + "'s computation";
    at::Tensor flat = inner_->finish_gather(gather);
    in_use_.emplace_back(name, reads(flat.data_ptr(), flat.nbytes()));
    touch(name, {in_use_.back().second});
    return flat;
  }
  void release_gather() override {
    touch(in_use_.front().first, {in_use_.front().second});
    in_use_.pop_front();
    inner_->release_gather();
  }
  void forget_converted() override { inner_->forget_converted(); }

  at::Tensor gradient_buffer(int reduce) override {
    at::Tensor flat = inner_->gradient_buffer(reduce);
    gradients_[reduce] = writes(flat.data_ptr(), flat.nbytes());
    touch("the gradient of unit " + std::to_string(plan().reduces[reduce].unit), {gradients_[reduce]});
    return flat;
  }
  void start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) override {
    if (const auto written = gradients_.extract(reduce); !written.empty())
      touch("the gradient of unit " + std::to_string(plan().reduces[reduce].unit), {written.mapped()});
    inner_->start_reduce(reduce, accumulation, levels);
  }
  void finish_reduce(int reduce) override { inner_->finish_reduce(reduce); }

 private:
  std::unique_ptr<Exchange> inner_;
  std::deque<std::pair<std::string, Access>> in_use_;
  std::map<int, Access> gradients_;
};

}  // namespace plumb::fake
