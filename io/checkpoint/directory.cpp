#include "io/checkpoint/directory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "io/file/atomic_directory.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "step-";

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto read = std::from_chars(name.data(), name.data() + name.size(), step);
  if (read.ec != std::errc() || read.ptr != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

/// The names in a directory; none where there is no directory.
std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory)
    throw_error<InputOutputError>("{}: cannot list: {}", directory, error.message());
  return names;
}

}  // namespace

std::string checkpoint_name(int64_t step) { return fmt::format("{}{:06}", kPrefix, step); }

std::vector<CheckpointPlace> list_checkpoints(const std::string& directory) {
  std::vector<CheckpointPlace> places;
  for (const std::string& name : names_in(directory)) {
    const std::string path = join_path(directory, name);
    if (const std::optional<int64_t> step = step_of(name); step && is_directory(path)) places.push_back({*step, path});
  }
  std::sort(places.begin(), places.end(),
            [](const CheckpointPlace& a, const CheckpointPlace& b) { return a.step > b.step; });
  return places;
}

void check_free_space(const std::string& directory, int64_t num_bytes) {
  std::error_code error;
  const fs::space_info disk = fs::space(directory, error);
  if (!error && disk.available < static_cast<uintmax_t>(num_bytes))
    throw_error<InputOutputError>("{}: expected {} bytes of free space for a checkpoint, got {}", directory, num_bytes,
                                  disk.available);
}

void prune_checkpoints(const std::string& directory, int64_t step, int64_t limit,
                       const std::vector<int64_t>& kept_steps) {
  int64_t num_kept = 0;
  for (const CheckpointPlace& place : list_checkpoints(directory)) {
    if (place.step > step) continue;
    if (num_kept < limit) {
      ++num_kept;
    } else if (std::find(kept_steps.begin(), kept_steps.end(), place.step) == kept_steps.end()) {
      remove_atomically(place.path);
    }
  }
}

void remove_all_checkpoints(const std::string& directory) {
  for (const CheckpointPlace& place : list_checkpoints(directory)) remove_atomically(place.path);
}

void remove_unfinished_checkpoints(const std::string& directory) {
  for (const std::string& name : names_in(directory))
    if (name.starts_with(kPrefix)) remove_temporary(join_path(directory, name));
}

}  // namespace plumb
