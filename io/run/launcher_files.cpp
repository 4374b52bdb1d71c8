#include "io/run/launcher_files.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/json_tolerant.hpp"
#include "lib/base/shared_memory_directory.hpp"

namespace plumb {

namespace fs = std::filesystem;

namespace {

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

int64_t number_at_end(const std::string& text, char before) {
  const size_t at = text.rfind(before);
  int64_t number = 0;
  if (at != std::string::npos) std::from_chars(text.data() + at + 1, text.data() + text.size(), number);
  return number;
}

bool is_of_this_user(const fs::path& path) {
  struct stat status = {};
  return ::lstat(path.c_str(), &status) == 0 && status.st_uid == ::geteuid();
}

/// Matches vader_segment.HOST.USER.JOB.RANK and osc_sm.HOST.JOB.NUMBER...
bool is_segment_of(const std::string& name, int64_t job) {
  return (name.starts_with("vader_segment.") || name.starts_with("osc_sm.")) &&
         name.find(fmt::format(".{:x}.", job)) != std::string::npos;
}

void remove_segments(int64_t job) {
  std::vector<fs::path> segments;
  std::error_code error;
  for (fs::directory_iterator entry(shared_memory_directory(), error), end; !error && entry != end;
       entry.increment(error))
    if (is_segment_of(entry->path().filename().string(), job)) segments.push_back(entry->path());
  for (const fs::path& path : segments)
    if (is_of_this_user(path)) fs::remove(path, error);
}

fs::path session_directories() { return environment("OMPI_MCA_orte_top_session_dir"); }  // of this user and machine

/// The first job of a launcher, from the address in its session directory, "FAMILY.0;tcp://..."; 0 if unknown.
int64_t first_job_of(const fs::path& session) {
  std::string address;
  std::getline(std::ifstream(session / "contact.txt"), address);
  int64_t family = 0;
  const auto read = std::from_chars(address.data(), address.data() + address.size(), family);
  return read.ec == std::errc() && std::string_view(read.ptr).starts_with(".0;") ? family + 1 : 0;
}

}  // namespace

LauncherJob this_launcher_job() {
  const std::string session = environment("OMPI_MCA_orte_jobfam_session_dir");  // .../pid.N
  LauncherJob job;
  if (const int64_t launcher = number_at_end(session, '.'); launcher > 0) job.launcher = identity_of(launcher);
  const std::string number = environment("OMPI_MCA_ess_base_jobid");
  std::from_chars(number.data(), number.data() + number.size(), job.job);
  return job;
}

nlohmann::ordered_json to_json(const LauncherJob& job) {
  return {{"launcher", to_json(job.launcher)}, {"number", job.job}};
}

LauncherJob launcher_job_from(const nlohmann::ordered_json& json) {
  return {process_identity_from(get_or_null(json, "launcher")), get_count(json, "number")};
}

void remove_launcher_files(const LauncherJob& job) noexcept try {
  const ProcessIdentity me = this_process();
  if (job.launcher.pid == 0 || job.job == 0 || job.launcher.machine != me.machine) return;
  remove_segments(job.job);
  const fs::path sessions = session_directories();
  if (life_of(job.launcher, me) != Life::kDead || !sessions.filename().string().starts_with("ompi.")) return;
  const fs::path session = sessions / fmt::format("pid.{}", job.launcher.pid);
  std::error_code ignored;
  if (is_of_this_user(session)) fs::remove_all(session, ignored);
} catch (const std::exception&) {
  return;  // failing to clean up after another run must not end this one
}

void remove_files_of_dead_launchers() noexcept try {
  const ProcessIdentity me = this_process();
  const fs::path sessions = session_directories();
  const LauncherJob mine = this_launcher_job();
  const fs::path my_session = sessions / fmt::format("pid.{}", mine.launcher.pid);
  // only if process ids are known to mean the same to this process and to the launchers
  if (mine.launcher.pid == 0 || life_of(mine.launcher, me) != Life::kAlive || !is_of_this_user(my_session)) return;
  std::error_code ignored;
  std::vector<fs::path> gone;
  for (const auto& entry : fs::directory_iterator(sessions)) {
    const std::string name = entry.path().filename().string();
    const int64_t launcher = name.starts_with("pid.") ? number_at_end(name, '.') : 0;
    if (launcher > 0 && !fs::exists(fmt::format("/proc/{}", launcher)) && is_of_this_user(entry.path()))
      gone.push_back(entry.path());
  }
  for (const fs::path& session : gone) {
    if (const int64_t job = first_job_of(session); job > 0) remove_segments(job);
    fs::remove_all(session, ignored);
  }
} catch (const std::exception&) {
  return;
}

}  // namespace plumb
