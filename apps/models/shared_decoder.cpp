#include "apps/models/shared_decoder.hpp"

#include <ATen/ops/from_blob.h>

#include <algorithm>

#include "io/huggingface/hf_model.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "partition/shared_queue.hpp"

namespace plumb {

namespace {

constexpr int64_t kAlignmentBytes = 64;
constexpr int64_t kChunkElements = int64_t{1} << 20;  // read at a time
constexpr double kSecondsBetweenReports = 10;

int64_t bytes_of_unit(const UnitLayout& unit, int64_t element_bytes) {
  return (unit.num_elements * element_bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

}  // namespace

SharedDecoder::SharedDecoder(const Communicator& comm, const ModelConfig& config, at::ScalarType dtype)
    : comm_(comm), config_(config), dtype_(dtype) {}

SharedDecoder::SharedDecoder(const Communicator& comm, const ModelSource& model, at::ScalarType dtype)
    : comm_(comm), dtype_(dtype) {
  std::optional<HfModel> source;
  comm.run_agreed([&] { source.emplace(model.model, model.options(HeadKind::kLanguageModel)); });
  config_ = source->config();
  read(*source);
}

void SharedDecoder::allocate() {
  if (memory_) return;
  const auto element_bytes = static_cast<int64_t>(at::elementSize(dtype_));
  layouts_ = unit_layouts(config_);
  int64_t num_bytes = 0;
  for (const UnitLayout& unit : layouts_) num_bytes += bytes_of_unit(unit, element_bytes);
  memory_.emplace(comm_, num_bytes);
  std::byte* begin = memory_->data();
  for (const UnitLayout& unit : layouts_) {
    units_.push_back(at::from_blob(begin, {unit.num_elements}, at::TensorOptions().dtype(dtype_)));
    begin += bytes_of_unit(unit, element_bytes);
  }
  comm_.run_agreed([&] { decoder_.emplace(config_, units_); });
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
  allocate();
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

void SharedDecoder::copy(const TrainedModel& model) {
  if (model.adapted) {
    decoder_.emplace(model.adapted->resident_units());
    return;
  }
  allocate();
  model.whole->gather_units([&](int unit, const at::Tensor& flat) {
    const auto [begin, end] = part_of(layouts_[unit]);
    if (begin < end) units_[unit].narrow(0, begin, end - begin).copy_(flat.narrow(0, begin, end - begin));
  });
  comm_.barrier();  // no rank decodes before all parts have been copied
}

std::vector<std::vector<Completion>> sample_completions(const Communicator& comm, Decoder& decoder,
                                                        const std::vector<std::vector<int32_t>>& prompts,
                                                        int64_t num_generations, const GenerateOptions& options) {
  // Text p * num_generations + g is generation g of prompt p.
  const int64_t num_texts = std::ssize(prompts) * num_generations;
  std::vector<std::vector<Completion>> completions(prompts.size(), std::vector<Completion>(num_generations));
  if (options.max_new_tokens == 0 || num_texts == 0) return completions;
  const int64_t at_once = texts_at_once(decoder, prompts, options.max_new_tokens);
  SharedQueue queue(comm, num_texts, at_once);
  int64_t num_tokens = 0;
  double next_report = steady_seconds() + kSecondsBetweenReports;
  const auto report = [&](int64_t, int32_t) {
    ++num_tokens;
    if (comm.rank() != 0 || steady_seconds() < next_report) return;
    next_report = steady_seconds() + kSecondsBetweenReports;
    log_info("sampling {} completions: rank 0 made {} tokens so far", num_texts, num_tokens);
  };
  std::vector<int64_t> numbers;
  std::vector<Completion> mine;
  comm.run_agreed([&] {
    const TextQueue texts{prompts, num_generations, 0, [&] { return queue.next(); }};
    for (NumberedText& text : generate(decoder, texts, at_once, options, report)) {
      numbers.push_back(text.number);
      mine.push_back(std::move(text.tokens));
    }
  });
  const std::vector<std::vector<int64_t>> all_numbers = comm.all_gather(numbers);
  std::vector<std::vector<Completion>> all = comm.all_gather(mine);
  for (size_t rank = 0; rank < all.size(); ++rank)
    for (size_t i = 0; i < all[rank].size(); ++i)
      completions[all_numbers[rank][i] / num_generations][all_numbers[rank][i] % num_generations] =
          std::move(all[rank][i]);
  return completions;
}

}  // namespace plumb
