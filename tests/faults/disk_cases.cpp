// Full and failing disks, and damaged files.
#include <cerrno>
#include <filesystem>
#include <stdexcept>

#include "tests/faults/damage.hpp"
#include "tests/faults/fault_case.hpp"

namespace plumb::test {

namespace fs = std::filesystem;

namespace {

constexpr const char* kNewest = "run/dpo/checkpoints/step-000020/";

/// A call that fails on one rank while the checkpoint of step 20 is saved; the run continues.
FaultCase refused_call(const std::string& what, const std::string& call, const std::string& path, int rank, int error,
                       bool is_async,
                       const std::string& named = "saving the checkpoint of step 20 failed (failure 1)") {
  const std::string fault = call + ":" + path + ":" + std::to_string(rank) + ":" + std::to_string(error);
  return {.fault = (error == EIO ? "EIO on " : "ENOSPC on ") + call,
          .phase = what + (is_async ? ", asynchronously" : ""),
          .attempts = {{.environment = {{"LD_PRELOAD", PLUMB_DISK_FAULTS}, {"PLUMB_DISK_FAULT", fault}},
                        .named = named + "; training continues"}},
          .is_async = is_async,
          .is_smoke = call == "fsync" && rank == 3 && !is_async,
          .max_detect_seconds = 0,
          .needs_preload = true};
}

/// The newest checkpoint of a killed run is damaged: the one before is used.
FaultCase damaged_checkpoint(const std::string& what, std::function<void(const Place&)> damage, bool is_smoke = false) {
  return {.fault = what,
          .phase = "before a restart",
          .start = Start::kInDpo,
          .attempts = {{.named = "step-000020: "}},
          .is_smoke = is_smoke,
          .max_detect_seconds = 0,
          .max_steps_lost = 2 * kInterval,
          .damage = std::move(damage)};
}

/// A token shard is damaged before a restart: that is logged, and the shard is prepared again from the rows.
FaultCase damaged_tokens(const std::string& what,
                         const std::function<void(const std::vector<std::string>& shards)>& damage,
                         bool is_smoke = false) {
  return {.fault = what,
          .phase = "before a restart",
          .start = Start::kInDpo,
          .attempts = {{.named = "preparing the data again"}},
          .is_smoke = is_smoke,
          .max_detect_seconds = 0,
          .damage = [damage](const Place& place) { damage(files_below(place / "run/dpo/data", ".h5")); }};
}

void add_full_disks(std::vector<FaultCase>& cases) {
  const auto fill_after = [](const std::string& text, int64_t free_bytes, const std::string& free_after = "") {
    return [=](const Place& place) {
      std::vector<Act> acts = {{text, 0, [=](pid_t) { fill_disk(place, free_bytes); }}};
      if (!free_after.empty()) acts.push_back({free_after, 0, [=](pid_t) { free_disk(place); }});
      return acts;
    };
  };
  const auto on_own_disk = [&](const std::string& phase, Attempt attempt, bool is_smoke) {
    cases.push_back({.fault = "disk full",
                     .phase = phase,
                     .attempts = {std::move(attempt)},
                     .is_smoke = is_smoke,
                     .max_detect_seconds = 0,
                     .damage = put_on_own_disk,
                     .mend =
                         [](const Place& place) {
                           if (fs::exists(place / "run/filler")) free_disk(place);
                         },
                     .needs_mounts = true});
  };
  // the space for one checkpoint and the model is held from the first step on
  on_own_disk("to the last byte, from step 12 on",
              {.acts = fill_after("step 12/30 ", 0), .named = "failed (failure 1); training continues"}, true);
  on_own_disk("before the first step, 256 KiB free, until the run waits for room to export",
              {.acts = fill_after("plumb: check: ", 256 << 10, "the run waits for it, since only its memory"),
               .named = "saving the checkpoint of step 10 failed (failure 1); training continues"},
              false);
  cases.push_back({.fault = "read-only directory",
                   .phase = "at a restart",
                   .start = Start::kInDpo,
                   .attempts = {{.exit_code = 74, .named = "Read-only file system"}},
                   .max_detect_seconds = 0,
                   .damage =
                       [](const Place& place) {
                         put_on_own_disk(place);
                         make_disk_read_only(place, true);
                       },
                   .mend = [](const Place& place) { make_disk_read_only(place, false); },
                   .needs_mounts = true});
}

}  // namespace

std::vector<FaultCase> disk_cases() {
  std::vector<FaultCase> cases;
  add_full_disks(cases);
  for (const bool is_async : {false, true}) {
    cases.push_back(refused_call("a rank's file of step 20", "fallocate", "step-000020", 5, ENOSPC, is_async));
    cases.push_back(refused_call("a rank's file of step 20", "pwrite", "step-000020", 5, ENOSPC, is_async));
    cases.push_back(refused_call("a rank's file of step 20", "fsync", "step-000020.tmp-", 3, EIO, is_async));
    cases.push_back(refused_call("COMMIT of every checkpoint", "fsync", "/COMMIT$", 0, EIO, is_async,
                                 "saving the checkpoint of step 30 failed (failure 3)"));
    cases.push_back(refused_call("the directory of checkpoints, every time", "fsync", "/dpo/checkpoints$", 0, EIO,
                                 is_async, "saving the checkpoint of step 30 failed (failure 3)"));
    cases.push_back(refused_call("step 20 is renamed into place", "rename", "step-000020.tmp-", 0, EIO, is_async));
  }
  cases.push_back(damaged_tokens("token shard cut off", [](const std::vector<std::string>& shards) {
    fs::resize_file(shards.at(1), fs::file_size(shards.at(1)) - 500);
  }));
  cases.push_back(damaged_tokens(
      "byte flipped in a token shard", [](const std::vector<std::string>& shards) { flip_bit(shards.at(1), 0.6); },
      true));
  cases.push_back(damaged_tokens("two token shards swapped", [](const std::vector<std::string>& shards) {
    fs::rename(shards.at(0), shards.at(0) + ".aside");
    fs::rename(shards.at(1), shards.at(0));
    fs::rename(shards.at(0) + ".aside", shards.at(1));
  }));
  cases.push_back(damaged_checkpoint(
      "byte flipped in the newest checkpoint",
      [](const Place& place) { flip_bit(files_below(place / kNewest, ".bin").at(3), 0.4); }, true));
  cases.push_back(
      damaged_checkpoint("COMMIT missing", [](const Place& place) { fs::remove(place / kNewest + "COMMIT"); }));
  cases.push_back(damaged_checkpoint(
      "a rank's file missing", [](const Place& place) { fs::remove(place / kNewest + "rank-00005-of-00008.bin"); }));
  FaultCase strays =
      damaged_checkpoint("stray files and directories; a `latest` that points nowhere", [](const Place& place) {
        const std::string checkpoints = place / "run/dpo/checkpoints/";
        fs::create_symlink("step-000099", checkpoints + "latest");
        fs::create_directories(checkpoints + "step-mine");
        fs::create_directories(checkpoints + "step-000040.new.tmp-abcdef");
        write_file(checkpoints + "step-000030", "no directory");
        write_file(checkpoints + "notes.txt", "kept");
      });
  strays.attempts[0].named = "resuming after step 20";
  strays.mend = [](const Place& place) {
    for (const char* name : {"latest", "step-mine", "notes.txt"})
      if (!fs::exists(fs::symlink_status(place / "run/dpo/checkpoints/" + name)))
        throw std::runtime_error(std::string("a stray file was removed: ") + name);
  };
  cases.push_back(strays);
  return cases;
}

}  // namespace plumb::test
