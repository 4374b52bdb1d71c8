#include "io/dataset/packing_file.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <span>

#include "io/dataset/content_hash.hpp"
#include "io/dataset/packing.hpp"
#include "io/file/atomic_hdf5_file.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {
namespace {

constexpr int64_t kFormatVersion = 1;
constexpr const char* kKind = "packing";
constexpr int64_t kElementsPerChunk = 4 * 1024;
constexpr int64_t kRowsPerPiece = kElementsPerChunk;

std::string packing_path(const std::string& directory, const PackingSetting& setting) {
  std::string parts;
  if (!setting.part_sizes.empty()) {
    parts = "-" + hash_of_text(fmt::format("{}", fmt::join(setting.part_sizes, " "))).substr(0, 16);
  }
  return join_path(directory, fmt::format("packing-{}{}.h5", setting.capacity_tokens, parts));
}

void require(bool holds, const std::string& path, std::string_view expected) {
  if (!holds) throw_error<DataError>("{}: expected {}, got something else; is the file damaged?", path, expected);
}

Hdf5File open_packing(const std::string& directory, const DatasetIndex& index, const PackingSetting& setting) {
  const std::string path = packing_path(directory, setting);
  Hdf5File file = Hdf5File::open_for_reading(path);
  require(file.integer_attribute("format_version") == kFormatVersion, path, "format version 1");
  require(file.text_attribute("kind") == kKind, path, "the kind packing");
  require(file.integer_attribute("capacity_tokens") == setting.capacity_tokens, path, "the capacity of its name");
  require(file.text_attribute("dataset_key") == index.key, path, "the key of the shards beside it");
  return file;
}

int64_t find_max_row_tokens(const PackingPlan& plan, std::span<const int64_t> example_tokens) {
  int64_t most = 0;
  for (int64_t row = 0; row < plan.num_rows(); ++row) {
    int64_t tokens = 0;
    for (const int64_t example : plan.row(row)) tokens += example_tokens[example];
    most = std::max(most, tokens);
  }
  return most;
}

}  // namespace

PackingFile::PackingFile(const std::string& directory, const DatasetIndex& index, const PackingSetting& setting)
    : file_(open_packing(directory, index, setting)),
      capacity_tokens_(setting.capacity_tokens),
      max_row_tokens_(file_.integer_attribute("max_row_tokens")),
      num_examples_(index.num_rows()),
      offsets_(file_.open_dataset<int64_t>("offsets")),
      examples_(file_.open_dataset<int64_t>("examples")) {
  require(max_row_tokens_ > 0 && max_row_tokens_ <= index.num_tokens(), file_.path(),
          "a longest row within the dataset");
  check_all();
}

std::vector<int64_t> PackingFile::read_offsets(int64_t begin, int64_t end) const {
  std::vector<int64_t> offsets(end - begin + 1);
  offsets_.read(begin, std::span(offsets));
  for (size_t i = 0; i < offsets.size(); ++i) {
    const int64_t least = i == 0 ? 0 : offsets[i - 1] + 1;  // a row has examples
    if (offsets[i] < least || offsets[i] > num_examples_) {
      throw_error<DataError>("{}: row {}: expected an offset in [{}, {}], got {}", file_.path(),
                             begin + static_cast<int64_t>(i), least, num_examples_, offsets[i]);
    }
  }
  return offsets;
}

std::vector<int64_t> PackingFile::read_examples(const std::vector<int64_t>& offsets, int64_t first_row) const {
  std::vector<int64_t> examples(offsets.back() - offsets.front());
  examples_.read(offsets.front(), std::span(examples));
  size_t i = 0;
  for (size_t row = 1; row < offsets.size(); ++row) {
    for (int64_t least = 0; static_cast<int64_t>(i) < offsets[row] - offsets.front(); least = examples[i++] + 1) {
      if (examples[i] >= least && examples[i] < num_examples_) continue;
      throw_error<DataError>("{}: row {}: expected ascending numbers of examples in [{}, {}), got {}", file_.path(),
                             first_row + static_cast<int64_t>(row) - 1, least, num_examples_, examples[i]);
    }
  }
  return examples;
}

void PackingFile::check_all() const {
  require(examples_.size() == num_examples_ && offsets_.size() > 1, file_.path(), "all examples of the dataset");
  std::vector<bool> is_seen(num_examples_);
  int64_t num_seen = 0;
  for (int64_t begin = 0; begin < num_rows(); begin += kRowsPerPiece) {
    const std::vector<int64_t> offsets = read_offsets(begin, std::min(begin + kRowsPerPiece, num_rows()));
    require(offsets.front() == num_seen, file_.path(), "offsets from 0 on");
    for (const int64_t example : read_examples(offsets, begin)) {
      if (is_seen[example]) {
        throw_error<DataError>("{}: expected every example once, got {} again", file_.path(), example);
      }
      is_seen[example] = true;
      ++num_seen;
    }
  }
  require(num_seen == num_examples_, file_.path(), "offsets up to the number of examples");
}

std::vector<int64_t> PackingFile::examples_of_row(int64_t row) const {
  check(row >= 0 && row < num_rows(), "a row is within its plan");
  return read_examples(read_offsets(row, row + 1), row);
}

bool has_packing(const std::string& directory, const DatasetIndex& index, const PackingSetting& setting) {
  if (!is_regular_file(packing_path(directory, setting))) return false;
  try {
    PackingFile(directory, index, setting);
    return true;
  } catch (const DataError& error) {
    log_warning("{}; packing the rows again", error.what());
    return false;
  }
}

void write_packing(const std::string& directory, const DatasetIndex& index, const PackingSetting& setting,
                   std::span<const int64_t> example_tokens) {
  const PackingPlan plan = pack_parts(example_tokens, setting.capacity_tokens, setting.part_sizes);
  AtomicHdf5File atomic_file(packing_path(directory, setting));
  Hdf5File& file = atomic_file.file();
  file.set_attribute("format_version", kFormatVersion);
  file.set_attribute("kind", kKind);
  file.set_attribute("dataset_key", index.key);
  file.set_attribute("capacity_tokens", setting.capacity_tokens);
  file.set_attribute("max_row_tokens", find_max_row_tokens(plan, example_tokens));
  const auto write = [&](const char* name, const std::vector<int64_t>& values) {
    Hdf5Dataset array = file.create_dataset<int64_t>(name, {kElementsPerChunk, -1});
    array.append(std::span(values));
    array.close();
  };
  write("offsets", plan.offsets);
  write("examples", plan.examples);
  atomic_file.publish();
}

}  // namespace plumb
