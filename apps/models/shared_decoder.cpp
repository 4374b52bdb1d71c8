#include "apps/models/shared_decoder.hpp"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "io/huggingface/hf_model.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

constexpr int64_t kAlignmentBytes = 64;
constexpr int64_t kChunkElements = int64_t{1} << 20;  // read at a time
constexpr int64_t kRowsPerBatch = 8;                  // completions decoded together
constexpr int64_t kBatchesPerRound = 16;              // per rank, between two exchanges

int64_t bytes_of_unit(const UnitLayout& unit, int64_t element_bytes) {
  return (unit.num_elements * element_bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

/// Reads this rank's part of a unit into the node's copy.
void read_part(const HfModel& source, const UnitLayout& unit, const at::Tensor& flat, int64_t part, int64_t num_parts) {
  const int64_t size = (unit.num_elements + num_parts - 1) / num_parts;
  const int64_t begin = std::min(part * size, unit.num_elements), end = std::min(begin + size, unit.num_elements);
  std::vector<float> chunk;
  for (int64_t first = begin; first < end; first += kChunkElements) {
    const int64_t last = std::min(first + kChunkElements, end);
    chunk.resize(last - first);
    source.read_unit_range(unit, first, last, chunk);
    flat.narrow(0, first, last - first).copy_(at::from_blob(chunk.data(), {last - first}, at::kFloat));
  }
}

/// Appends the number of token ids and the ids.
void append_completion(const Completion& completion, std::string& bytes) {
  const auto size = static_cast<int32_t>(completion.size());
  bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
  bytes.append(reinterpret_cast<const char*>(completion.data()), completion.size() * sizeof(int32_t));
}

Completion read_completion(const std::string& bytes, size_t& offset) {
  int32_t size = 0;
  check(offset + sizeof size <= bytes.size(), "every completion has arrived");
  std::memcpy(&size, bytes.data() + offset, sizeof size);
  offset += sizeof size;
  Completion completion(size);
  check(offset + completion.size() * sizeof(int32_t) <= bytes.size(), "every completion has arrived completely");
  if (size > 0) std::memcpy(completion.data(), bytes.data() + offset, completion.size() * sizeof(int32_t));
  offset += completion.size() * sizeof(int32_t);
  return completion;
}

}  // namespace

SharedDecoder::SharedDecoder(const Communicator& comm, const ModelSource& model, at::ScalarType dtype) {
  std::optional<HfModel> source;
  int64_t num_bytes = 0;
  const auto element_bytes = static_cast<int64_t>(at::elementSize(dtype));
  comm.run_agreed([&] {
    source.emplace(model.model, model.options(HeadKind::kLanguageModel));
    for (const UnitLayout& unit : source->units()) num_bytes += bytes_of_unit(unit, element_bytes);
  });
  memory_.emplace(comm, num_bytes);
  std::vector<at::Tensor> units;
  comm.run_agreed([&] {
    std::byte* begin = memory_->data();
    for (const UnitLayout& unit : source->units()) {
      units.push_back(at::from_blob(begin, {unit.num_elements}, at::TensorOptions().dtype(dtype)));
      read_part(*source, unit, units.back(), comm.local_index(comm.rank()), comm.node_size(comm.node()));
      begin += bytes_of_unit(unit, element_bytes);
    }
  });  // no rank decodes before all parts have been read
  decoder_.emplace(source->config(), units);
}

std::vector<std::vector<Completion>> sample_completions(const Communicator& comm, Decoder& decoder,
                                                        const std::vector<std::vector<int32_t>>& prompts,
                                                        int64_t num_generations, const GenerateOptions& options) {
  // Row p * num_generations + g is generation g of prompt p; batch b holds rows [b, b + 1) * kRowsPerBatch and is
  // decoded by rank b % N.
  const int64_t num_rows = std::ssize(prompts) * num_generations;
  const int64_t num_batches = (num_rows + kRowsPerBatch - 1) / kRowsPerBatch;
  std::vector<std::vector<Completion>> completions(prompts.size());
  auto next_report = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (int64_t first = 0; first < num_batches; first += kBatchesPerRound * comm.size()) {
    const int64_t end = std::min(num_batches, first + kBatchesPerRound * comm.size());
    std::string mine;
    comm.run_agreed([&] {
      for (int64_t batch = first + comm.rank(); batch < end; batch += comm.size()) {
        std::vector<std::vector<int32_t>> rows;
        for (int64_t row = batch * kRowsPerBatch; row < std::min(num_rows, (batch + 1) * kRowsPerBatch); ++row)
          rows.push_back(prompts[row / num_generations]);
        for (const Completion& completion :
             generate(decoder, rows, options, static_cast<uint64_t>(batch * kRowsPerBatch)))
          append_completion(completion, mine);
      }
    });
    const std::vector<std::string> parts = comm.all_gather(mine);
    std::vector<size_t> offsets(parts.size(), 0);
    for (int64_t row = first * kRowsPerBatch; row < std::min(num_rows, end * kRowsPerBatch); ++row) {
      const int64_t rank = (row / kRowsPerBatch - first) % comm.size();
      completions[row / num_generations].push_back(read_completion(parts[rank], offsets[rank]));
    }
    if (comm.rank() != 0 || std::chrono::steady_clock::now() < next_report) continue;
    next_report = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    log_info("sampling: {} of {} completions", std::min(num_rows, end * kRowsPerBatch), num_rows);
  }
  return completions;
}

}  // namespace plumb
