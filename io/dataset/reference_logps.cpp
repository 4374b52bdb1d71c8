#include "io/dataset/reference_logps.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>

#include "io/file/atomic_hdf5_file.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

constexpr int64_t kFormatVersion = 1;
constexpr const char* kKind = "reference_logps";
constexpr const char* kArray = "logps";
constexpr int64_t kElementsPerChunk = 1024;
constexpr int64_t kValuesPerExample = 4;

// they are sent and written as they are in memory
static_assert(std::is_trivially_copyable_v<ExampleLogps> && sizeof(ExampleLogps) == 5 * 8);

std::string logps_path(const Dataset& dataset, const std::string& model) {
  const auto is_plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; };
  check(!model.empty() && std::all_of(model.begin(), model.end(), is_plain), "a model is named by letters and digits");
  return join_path(dataset.directory(), fmt::format("reference_logps-{}.h5", model));
}

void require(bool holds, const std::string& path, std::string_view expected) {
  if (!holds) throw_error<DataError>("{}: expected {}, got something else; is the file damaged?", path, expected);
}

Hdf5File open_logps(const Dataset& dataset, const std::string& model) {
  const std::string path = logps_path(dataset, model);
  Hdf5File file = Hdf5File::open_for_reading(path);
  require(file.integer_attribute("format_version") == kFormatVersion, path, "format version 1");
  require(file.text_attribute("kind") == kKind, path, "the kind reference_logps");
  require(file.text_attribute("dataset_key") == dataset.index().key, path, "the key of the shards beside it");
  require(file.text_attribute("model") == model, path, "the model of its name");
  return file;
}

bool is_finite(const SequenceLogps& logps) { return std::isfinite(logps.shared) && std::isfinite(logps.tail); }

std::vector<ExampleLogps> concatenate(const std::vector<std::vector<ExampleLogps>>& parts) {
  std::vector<ExampleLogps> all;
  for (const std::vector<ExampleLogps>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// Rank 0 only: the file while it grows, example by example.
class LogpsWriter {
 public:
  LogpsWriter(const Dataset& dataset, const std::string& model)
      : atomic_file_(logps_path(dataset, model)), logps_(create(dataset, model)) {}

  /// The next values.size() examples, in any order.
  void append(std::vector<ExampleLogps> values, int64_t num_examples) {
    std::sort(values.begin(), values.end(), [](const auto& a, const auto& b) { return a.example < b.example; });
    std::vector<double> numbers;
    for (size_t i = 0; i < values.size(); ++i) {
      const ExampleLogps& value = values[i];
      check(value.example == num_written_ + static_cast<int64_t>(i), "every example has its values once");
      numbers.insert(numbers.end(),
                     {value.chosen.shared, value.chosen.tail, value.rejected.shared, value.rejected.tail});
    }
    check(std::ssize(values) == num_examples, "every example has its values");
    logps_.append(std::span<const double>(numbers));
    num_written_ += num_examples;
  }

  void publish() {
    logps_.close();
    atomic_file_.publish();
  }

 private:
  Hdf5Dataset create(const Dataset& dataset, const std::string& model) {
    Hdf5File& file = atomic_file_.file();
    file.set_attribute("format_version", kFormatVersion);
    file.set_attribute("kind", kKind);
    file.set_attribute("dataset_key", dataset.index().key);
    file.set_attribute("model", model);
    return file.create_dataset<double>(kArray, {kElementsPerChunk, 0});
  }

  AtomicHdf5File atomic_file_;
  Hdf5Dataset logps_;
  int64_t num_written_ = 0;
};

}  // namespace

ReferenceLogps::ReferenceLogps(const Dataset& dataset, const std::string& model)
    : file_(open_logps(dataset, model)),
      num_examples_(dataset.num_examples()),
      logps_(file_.open_dataset<double>(kArray)) {
  if (logps_.size() != kValuesPerExample * num_examples_) {
    throw_error<DataError>("{}: expected {} values for each of {} examples, got {}", path(), kValuesPerExample,
                           num_examples_, logps_.size());
  }
}

std::vector<SequenceLogps> ReferenceLogps::read(int64_t begin, int64_t end) const {
  check(begin >= 0 && begin <= end && end <= num_examples_, "examples to read are within the dataset");
  std::vector<double> numbers(kValuesPerExample * (end - begin));
  logps_.read(kValuesPerExample * begin, std::span(numbers));
  std::vector<SequenceLogps> logps;
  logps.reserve(numbers.size() / 2);
  for (size_t i = 0; i < numbers.size(); i += 2) {
    logps.push_back({numbers[i], numbers[i + 1]});
    if (!is_finite(logps.back())) {
      throw_error<DataError>("{}: example {}: expected finite log-probabilities, got {} and {}", path(),
                             begin + static_cast<int64_t>(i) / kValuesPerExample, numbers[i], numbers[i + 1]);
    }
  }
  return logps;
}

void ReferenceLogps::check_all() const {
  constexpr int64_t kExamplesPerPiece = 16 * 1024;
  for (int64_t begin = 0; begin < num_examples_; begin += kExamplesPerPiece) {
    read(begin, std::min(begin + kExamplesPerPiece, num_examples_));
  }
}

bool has_reference_logps(const Communicator& comm, const Dataset& dataset, const std::string& model) {
  return comm.from_rank0([&] {
    if (!is_regular_file(logps_path(dataset, model))) return false;
    try {
      ReferenceLogps(dataset, model).check_all();
      return true;
    } catch (const DataError& error) {
      log_warning("{}; computing the reference log-probabilities again", error.what());
      return false;
    }
  });
}

void write_reference_logps(const Communicator& comm, const Dataset& dataset, const std::string& model,
                           std::vector<ExampleLogps> values, int64_t piece_examples) {
  std::sort(values.begin(), values.end(), [](const auto& a, const auto& b) { return a.example < b.example; });
  comm.run_agreed([&] {
    for (const ExampleLogps& value : values) {
      check(value.example >= 0 && value.example < dataset.num_examples(), "values belong to examples of the dataset");
      if (is_finite(value.chosen) && is_finite(value.rejected)) continue;
      throw_error<NumericError>("reference model: example {}: expected finite log-probabilities, got {}, {}, {}, {}",
                                value.example, value.chosen.shared, value.chosen.tail, value.rejected.shared,
                                value.rejected.tail);
    }
  });
  std::optional<LogpsWriter> writer;
  comm.run_on_rank0([&] { writer.emplace(dataset, model); });
  auto rest = std::span<const ExampleLogps>(values);
  for (int64_t begin = 0; begin < dataset.num_examples(); begin += piece_examples) {
    const int64_t end = std::min(begin + piece_examples, dataset.num_examples());
    const auto after =
        std::partition_point(rest.begin(), rest.end(), [&](const ExampleLogps& value) { return value.example < end; });
    const auto num_here = static_cast<size_t>(after - rest.begin());
    const std::vector<std::vector<ExampleLogps>> piece = comm.gather_on_rank0(rest.first(num_here));
    rest = rest.subspan(num_here);
    comm.run_on_rank0([&] { writer->append(concatenate(piece), end - begin); });
  }
  comm.run_on_rank0([&] { writer->publish(); });
}

}  // namespace plumb
