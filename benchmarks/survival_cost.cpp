// Cost of the robustness features, with lower bounds: nanoseconds to publish an operation for the watchdog, and seconds
// to copy memory, the minimum for an asynchronous save. Usage: plumb_survival_cost MEBIBYTES
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "benchmarks/timing.hpp"
#include "lib/base/activity.hpp"

namespace {

template <class Work>
double median_seconds_of(const Work& work) {
  std::vector<double> seconds;
  for (int i = 0; i < 15; ++i) seconds.push_back(plumb::seconds_of(work));
  return plumb::median(seconds);
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
