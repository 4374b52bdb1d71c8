#include "apps/models/shared_decoder.hpp"

#include <ATen/ops/from_blob.h>

#include <algorithm>

#include "io/huggingface/hf_model.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

constexpr int64_t kAlignmentBytes = 64;
constexpr int64_t kChunkElements = int64_t{1} << 20;  // read at a time
constexpr int64_t kRowsPerRound = 128;                // per rank, between two exchanges
constexpr double kSecondsBetweenReports = 10;

int64_t bytes_of_unit(const UnitLayout& unit, int64_t element_bytes) {
  return (unit.num_elements * element_bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

}  // namespace

SharedDecoder::SharedDecoder(const Communicator& comm, const ModelConfig& config, at::ScalarType dtype)
    : comm_(comm), dtype_(dtype) {
  allocate(config);
}

SharedDecoder::SharedDecoder(const Communicator& comm, const ModelSource& model, at::ScalarType dtype)
    : comm_(comm), dtype_(dtype) {
  std::optional<HfModel> source;
  comm.run_agreed([&] { source.emplace(model.model, model.options(HeadKind::kLanguageModel)); });
  allocate(source->config());
  read(*source);
}

void SharedDecoder::allocate(const ModelConfig& config) {
  const auto element_bytes = static_cast<int64_t>(at::elementSize(dtype_));
  layouts_ = unit_layouts(config);
  int64_t num_bytes = 0;
  for (const UnitLayout& unit : layouts_) num_bytes += bytes_of_unit(unit, element_bytes);
  memory_.emplace(comm_, num_bytes);
  std::byte* begin = memory_->data();
  for (const UnitLayout& unit : layouts_) {
    units_.push_back(at::from_blob(begin, {unit.num_elements}, at::TensorOptions().dtype(dtype_)));
    begin += bytes_of_unit(unit, element_bytes);
  }
  comm_.run_agreed([&] { decoder_.emplace(config, units_); });
}

ElementRange SharedDecoder::part_of(const UnitLayout& unit) const {
  const int64_t num_parts = comm_.node_size(comm_.node()), part = comm_.local_index(comm_.rank());
  const int64_t size = (unit.num_elements + num_parts - 1) / num_parts;
  const int64_t begin = std::min(part * size, unit.num_elements);
  return {begin, std::min(begin + size, unit.num_elements)};
}

void SharedDecoder::read(const ModelSource& model) {
  std::optional<HfModel> source;
  comm_.run_agreed([&] { source.emplace(model.model, model.options(HeadKind::kLanguageModel)); });
  read(*source);
}

void SharedDecoder::read(const HfModel& source) {
  comm_.run_agreed([&] {
    std::vector<float> chunk;
    for (size_t i = 0; i < units_.size(); ++i) {
      const auto [begin, end] = part_of(layouts_[i]);
      for (int64_t first = begin; first < end; first += kChunkElements) {
        const int64_t last = std::min(first + kChunkElements, end);
        chunk.resize(last - first);
        source.read_unit_range(layouts_[i], first, last, chunk);
        units_[i].narrow(0, first, last - first).copy_(at::from_blob(chunk.data(), {last - first}, at::kFloat));
      }
    }
  });  // no rank decodes before all parts have been read
}

std::vector<std::vector<Completion>> sample_completions(const Communicator& comm, Decoder& decoder,
                                                        const std::vector<std::vector<int32_t>>& prompts,
                                                        int64_t num_generations, const GenerateOptions& options) {
  // Row p * num_generations + g is generation g of prompt p. Every rank decodes an equal part of each round's rows.
  const int64_t num_rows = std::ssize(prompts) * num_generations;
  std::vector<std::vector<Completion>> completions(prompts.size());
  double next_report = steady_seconds() + kSecondsBetweenReports;
  for (int64_t first = 0; first < num_rows; first += kRowsPerRound * comm.size()) {
    const int64_t count = std::min(num_rows - first, kRowsPerRound * comm.size());
    std::vector<Completion> mine;
    comm.run_agreed([&] {
      const int64_t begin = first + count * comm.rank() / comm.size();
      const int64_t end = first + count * (comm.rank() + 1) / comm.size();
      std::vector<std::vector<int32_t>> rows;
      for (int64_t row = begin; row < end; ++row) rows.push_back(prompts[row / num_generations]);
      mine = generate(decoder, rows, options, static_cast<uint64_t>(begin));
    });
    int64_t row = first;
    for (std::vector<Completion>& of_rank : comm.all_gather(mine))
      for (Completion& completion : of_rank) completions[row++ / num_generations].push_back(std::move(completion));
    if (comm.rank() != 0 || steady_seconds() < next_report) continue;
    next_report = steady_seconds() + kSecondsBetweenReports;
    log_info("sampling: {} of {} completions", row, num_rows);
  }
  return completions;
}

}  // namespace plumb
