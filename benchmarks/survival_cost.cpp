// What the parts of a run that help it survive cost, beside their limits: nanoseconds to publish an operation for the
// watchdog, and seconds to copy memory, which an asynchronous save cannot beat.
// Usage: plumb_survival_cost MEBIBYTES
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "lib/base/activity.hpp"

namespace {

double median_seconds_of(const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < 15; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  using namespace plumb;
  constexpr int kOperations = 100'000;
  const double publish_seconds = median_seconds_of([] {
    for (int i = 0; i < kOperations; ++i) const WatchedOperation operation("benchmark", OperationKind::kCollective, i);
  });
  const size_t num_bytes = static_cast<size_t>(argc > 1 ? std::atoi(argv[1]) : 256) << 20;
  std::vector<char> source(num_bytes, 1), target(num_bytes, 2);
  const double copy_seconds = median_seconds_of([&] { std::memcpy(target.data(), source.data(), num_bytes); });
  const double fresh_seconds = median_seconds_of([&] {
    std::vector<char> fresh;
    fresh.reserve(num_bytes);
    fresh.insert(fresh.end(), source.begin(), source.end());
  });
  fmt::print("publish an operation {:.0f} ns; copy of {} MiB {:.4f} s, into fresh memory {:.4f} s\n",
             publish_seconds / kOperations * 1e9, num_bytes >> 20, copy_seconds, fresh_seconds);
  return 0;
}
