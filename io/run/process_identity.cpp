#include "io/run/process_identity.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/file/host_name.hpp"
#include "io/file/json_tolerant.hpp"
#include "lib/base/clock.hpp"

namespace plumb {

namespace {

std::string machine_name() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::array<char, 64> space = {};
  const ssize_t size = ::readlink("/proc/self/ns/pid", space.data(), space.size() - 1);
  return fmt::format("{} {}", boot, size > 0 ? space.data() : "");
}

/// Clock ticks from boot to the start of a process; 0 if there is none or it is a zombie.
int64_t start_of(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');  // a name may contain anything
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string field;
  constexpr int kState = 3, kStart = 22;  // field numbers of proc(5)
  for (int i = kState; i <= kStart && fields >> field; ++i) {
    if (i == kState && (field == "Z" || field == "X")) return 0;
    if (i == kStart) return std::atoll(field.c_str());
  }
  return 0;
}

}  // namespace

ProcessIdentity this_process() { return identity_of(::getpid()); }

ProcessIdentity identity_of(int64_t pid) {
  const char* const job = std::getenv("SLURM_JOB_ID");
  const char* const restart = std::getenv("SLURM_RESTART_COUNT");
  return {host_name(), machine_name(), pid, start_of(pid), job ? job : "", restart ? std::atoll(restart) : 0,
          utc_now()};
}

Life life_of(const ProcessIdentity& process, const ProcessIdentity& me) {
  if (process.pid > 0 && process.machine == me.machine) {
    const int64_t start = start_of(process.pid);
    return start != 0 && start == process.started ? Life::kAlive : Life::kDead;
  }
  if (!process.job.empty() && process.job == me.job && process.restart < me.restart) return Life::kDead;
  return Life::kUnknown;
}

Life life_of(std::string_view host, int64_t pid) {
  if (host != host_name()) return Life::kUnknown;
  const bool is_dead = ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH;
  return is_dead ? Life::kDead : Life::kAlive;
}

nlohmann::ordered_json to_json(const ProcessIdentity& process) {
  return {
      {"host", process.host}, {"machine", process.machine}, {"pid", process.pid},    {"started_ticks", process.started},
      {"job", process.job},   {"restart", process.restart}, {"since", process.since}};
}

ProcessIdentity process_identity_from(const nlohmann::ordered_json& json) {
  return {get_text(json, "host"), get_text(json, "machine"),  get_count(json, "pid"), get_count(json, "started_ticks"),
          get_text(json, "job"),  get_count(json, "restart"), get_text(json, "since")};
}

}  // namespace plumb
