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
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/json_fields.hpp"
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

constexpr const char* kFormat = "plumb machine";
constexpr int kFormatVersion = 2;
constexpr int64_t kProductSizes[] = {256, 1024, 4096};

/// Floating-point operations per second of each rank in products of 512 rows with a square matrix, by its size.
ordered_json product_rates(const Communicator& comm, Precision precision) {
  constexpr int64_t kRows = 512;
  const auto options = at::TensorOptions().dtype(scalar_type(precision));
  ordered_json rates = ordered_json::object();
  for (const int64_t size : kProductSizes) {
    const at::Tensor x = at::ones({kRows, size}, options), w = at::ones({size, size}, options).t();
    at::Tensor out = at::ones({kRows, size}, options);
    const double flops = 2.0 * kRows * static_cast<double>(size * size);
    rates[std::to_string(size)] = flops / seconds_per_call(comm, [&] { matmul_into(out, x, w); });
  }
  return rates;
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

/// A number above 0 at this path of keys. Throws DataError.
double rate_at(const Json& machine, const std::string& keys, const std::string& path) {
  const Json::json_pointer pointer(keys);
  const Json value = machine.contains(pointer) ? machine.at(pointer) : Json();
  if (!value.is_number() || !(value.get<double>() > 0))
    throw_error<DataError>("{}: {}: expected a number above 0, got {}", path, keys, value.dump());
  return value.get<double>();
}

std::vector<ProductRate> read_rates(const Json& machine, Precision precision, const std::string& path) {
  std::vector<ProductRate> rates;
  for (const int64_t size : kProductSizes)
    rates.push_back({size, rate_at(machine, fmt::format("/flops_per_rank/{}/{}", name_of(precision), size), path)});
  return rates;
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
      {"format", kFormat},    {"format_version", kFormatVersion}, {"plumb", version()}, {"measured", utc_now()},
      {"ranks", comm.size()}, {"threads_per_rank", threads},      {"hosts", hosts}};
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16})
    machine["flops_per_rank"][std::string(name_of(precision))] = product_rates(comm, precision);
  machine["memory_bytes_per_second_per_rank"] = memory_rate(comm);
  machine["within_host"] = message_rates(comm, comm.node_size(0) > 1 ? 1 : 0);
  machine["between_hosts"] = message_rates(comm, comm.num_nodes() > 1 ? comm.node_begin(1) : 0);
  machine["disk_bytes_per_second"] = disk_rate(comm, output_dir);
  return machine;
}

MeasuredMachine read_machine(const std::string& path) {
  const Json file = parse_json(read_text_file(path, 1 << 20), path);
  if (!file.is_object() || file.value("format", Json()) != kFormat ||
      file.value("format_version", Json()) != kFormatVersion)
    throw_error<DataError>(
        "{}: expected a machine file of this plumb, got another file; plumb doctor --measure {} writes one", path,
        path);
  MeasuredMachine measured;
  measured.machine.float32 = read_rates(file, Precision::kFloat32, path);
  measured.machine.bfloat16 = read_rates(file, Precision::kBfloat16, path);
  measured.machine.memory_bytes_per_second = rate_at(file, "/memory_bytes_per_second_per_rank", path);
  if (!field_or_null(file, "between_hosts", path).is_null()) {
    measured.machine.network_latency_seconds = rate_at(file, "/between_hosts/latency_seconds", path);
    measured.machine.network_bytes_per_second = rate_at(file, "/between_hosts/bytes_per_second", path);
  }
  measured.ranks_per_host = static_cast<int64_t>(rate_at(file, "/hosts/0/ranks", path));
  measured.threads_per_rank = static_cast<int64_t>(rate_at(file, "/threads_per_rank", path));
  return measured;
}

}  // namespace plumb
