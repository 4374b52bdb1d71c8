#include "apps/preference/pair_files.hpp"

#include <algorithm>
#include <filesystem>

#include "io/dataset/content_hash.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxSummaryBytes = 16 << 20;

/// Rank 0 only: the text of the summary; "" if there is none or a file that it names is missing.
std::string find_summary(const std::string& directory, const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw_error<InputOutputError>("{}: cannot be created: {}", directory, error.message());
  if (!is_regular_file(path)) return "";
  std::string text = read_text_file(path, kMaxSummaryBytes);
  const json summary = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!summary.is_object() || !summary.contains("files") || !summary.contains("counts")) return "";
  const bool is_complete = std::all_of(summary["files"].begin(), summary["files"].end(), [&](const json& name) {
    return name.is_string() && is_regular_file(join_path(directory, name.get<std::string>()));
  });
  return is_complete ? text : "";
}

}  // namespace

PairFiles make_pair_files_once(const Communicator& comm, const std::string& directory, const std::string& kind,
                               const json& made_from, const std::function<PairFiles(const std::string& prefix)>& make) {
  const std::string prefix = kind + "-" + hash_of_text(made_from.dump());
  const std::string path = join_path(directory, prefix + ".json");
  std::string text = comm.from_rank0([&] { return find_summary(directory, path); });
  if (text.empty()) {
    const PairFiles made = make(prefix);
    text = comm.from_rank0([&] {
      const json summary = {{"files", made.names}, {"counts", made.counts}, {"made_from", made_from}};
      std::string written = summary.dump(2) + "\n";
      write_file_atomically(path, written);
      return written;
    });
  } else if (comm.rank() == 0) {
    log_info("{}: these pairs exist already", path);
  }
  const json summary = json::parse(text);
  return {summary.at("files").get<std::vector<std::string>>(), summary.at("counts")};
}

}  // namespace plumb
