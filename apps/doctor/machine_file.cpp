#include "apps/doctor/machine_file.hpp"

#include <ATen/ops/ones.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>

#include "apps/doctor/by_host.hpp"
#include "apps/doctor/directory_probe.hpp"
#include "apps/models/model_setup.hpp"
#include "io/file/file.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/version.hpp"
#include "lib/nn/matmul.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr double kSecondsPerRate = 0.25;

/// Seconds of one call of `work`, of as many as take kSecondsPerRate; the slowest rank decides.
double seconds_per_call(const Communicator& comm, const std::function<void()>& work) {
  work();  // touches the pages
  comm.barrier();
  const double begin = steady_seconds();
  int64_t calls = 0;
  while (steady_seconds() - begin < kSecondsPerRate) {
    work();
    ++calls;
  }
  double seconds = (steady_seconds() - begin) / static_cast<double>(calls);
  comm.max({&seconds, 1});
  return seconds;
}

/// Floating-point operations per second of each rank.
double product_rate(const Communicator& comm, Precision precision) {
  constexpr int64_t kRows = 512, kDepth = 1024, kColumns = 1024;
  const auto options = at::TensorOptions().dtype(scalar_type(precision));
  const at::Tensor x = at::ones({kRows, kDepth}, options), w = at::ones({kColumns, kDepth}, options).t();
  at::Tensor out = at::ones({kRows, kColumns}, options);
  return 2.0 * kRows * kDepth * kColumns / seconds_per_call(comm, [&] { matmul_into(out, x, w); });
}

/// Bytes per second that each rank reads and writes.
double memory_rate(const Communicator& comm) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  std::vector<char> from(kBytes, 1), to(kBytes);
  return 2.0 * kBytes / seconds_per_call(comm, [&] { std::memcpy(to.data(), from.data(), kBytes); });
}

/// One direction between rank 0 and `peer`; null where there is none.
ordered_json message_rates(const Communicator& comm, int peer) {
  if (peer <= 0 || peer >= comm.size()) return nullptr;
  constexpr int kTag = 12;
  constexpr int64_t kLargeBytes = int64_t{8} << 20;
  std::vector<std::byte> buffer(kLargeBytes);
  const auto seconds_of = [&](int64_t bytes, int rounds) {
    comm.barrier();
    const double begin = steady_seconds();
    for (int round = 0; round < rounds && (comm.rank() == 0 || comm.rank() == peer); ++round)
      for (const bool is_back : {false, true}) {
        MessageBatch batch(comm.mpi());
        const std::span<std::byte> part(buffer.data(), bytes);
        if ((comm.rank() == 0) != is_back)
          batch.send(part, comm.rank() == 0 ? peer : 0, kTag);
        else
          batch.receive(part, comm.rank() == 0 ? peer : 0, kTag);
        batch.wait();
      }
    const double seconds = (steady_seconds() - begin) / (2.0 * rounds);
    comm.barrier();
    return seconds;
  };
  const auto rate_of = [&](int64_t bytes) {
    seconds_of(bytes, 1);  // connects
    const double one = seconds_of(bytes, 2);
    return seconds_of(bytes,
                      comm.from_rank0([&] { return std::clamp(static_cast<int>(kSecondsPerRate / one), 2, 500); }));
  };
  const double latency = rate_of(8), large = rate_of(kLargeBytes);
  return {{"latency_seconds", latency}, {"bytes_per_second", static_cast<double>(kLargeBytes) / large}};
}

/// Bytes per second that rank 0 writes and fsyncs; null without a directory.
ordered_json disk_rate(const Communicator& comm, const std::string& output_dir) {
  if (output_dir.empty()) return nullptr;
  return comm.from_rank0([&] {
    constexpr int64_t kPieceBytes = int64_t{16} << 20, kMaxPieces = 16;
    const std::vector<std::byte> piece(kPieceBytes, std::byte{1});
    const ProbeDirectory directory(output_dir);
    const File file = File::create(join_path(directory.path(), "rate"));
    const double begin = steady_seconds();
    int64_t pieces = 0;
    for (; pieces < kMaxPieces && steady_seconds() - begin < kSecondsPerRate; ++pieces) {
      file.pwrite_exact(piece, pieces * kPieceBytes);
      file.sync();
    }
    return static_cast<double>(pieces * kPieceBytes) / (steady_seconds() - begin);
  });
}

}  // namespace

ordered_json measure_machine(const Communicator& comm, const Facts& facts, const std::string& output_dir) {
  const int threads = set_up_process(comm, 0);
  ordered_json hosts = ordered_json::array();
  for (const HostRanks& host : by_host(facts)) {
    std::vector<int> cpus;
    for (const RankFacts* rank : host.ranks) cpus.insert(cpus.end(), rank->cpus.begin(), rank->cpus.end());
    std::sort(cpus.begin(), cpus.end());
    const int64_t num_cpus = std::unique(cpus.begin(), cpus.end()) - cpus.begin();
    hosts.push_back({{"name", host.name},
                     {"ranks", host.num_ranks()},
                     {"cpus", num_cpus},
                     {"instruction_set", host.first().instruction_set},
                     {"available_memory_bytes", host.first().available_memory_bytes},
                     {"shared_memory_bytes", host.first().shared_bytes}});
  }
  ordered_json machine = {
      {"format", "plumb machine"}, {"format_version", 1},         {"plumb", version()}, {"measured", utc_now()},
      {"ranks", comm.size()},      {"threads_per_rank", threads}, {"hosts", hosts}};
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16})
    machine["flops_per_rank"][std::string(name_of(precision))] = product_rate(comm, precision);
  machine["memory_bytes_per_second_per_rank"] = memory_rate(comm);
  machine["within_host"] = message_rates(comm, comm.node_size(0) > 1 ? 1 : 0);
  machine["between_hosts"] = message_rates(comm, comm.num_nodes() > 1 ? comm.node_begin(1) : 0);
  machine["disk_bytes_per_second"] = disk_rate(comm, output_dir);
  return machine;
}

}  // namespace plumb
