#include "io/huggingface/peft_export.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "io/file/file.hpp"
#include "io/huggingface/peft_adapter.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr int64_t kReadElements = 1 << 20;
constexpr uint64_t kChecksumMask = (uint64_t{1} << 43) - 1;

/// A weight that differs in its high bits for adjacent indices and is odd, so that no change of an element is lost.
uint64_t weight_of_place(int64_t index) {
  const uint64_t mixed = (static_cast<uint64_t>(index) + 1) * 0x9E3779B97F4A7C15;
  return (mixed ^ mixed >> 29) | 1;
}

/// The head's tensors where it is the embedding: W itself, or the transposes of A and B. PEFT saves rows once.
UnitLayout head_copies(const UnitLayout& unit) {
  UnitLayout copies{"copies", {}, 0};
  for (const Parameter& p : unit.parameters) {
    if (p.kind != ParameterKind::kEmbedding || p.part == AdapterPart::kRows) continue;
    Parameter copy = p;
    copy.kind = ParameterKind::kHead;
    copy.offset = copies.num_elements;
    if (p.part != AdapterPart::kWhole) {
      copy.part = p.part == AdapterPart::kLoraA ? AdapterPart::kLoraB : AdapterPart::kLoraA;
      std::swap(copy.shape[0], copy.shape[1]);
    }
    copies.num_elements += copy.num_elements();
    copies.parameters.push_back(std::move(copy));
  }
  return copies;
}

/// Reads what the ranks wrote.
void write_copies(const ExportPlan& plan, const std::string& temporary, const UnitLayout& unit) {
  const PeftTensors tensors(join_path(temporary, plan.files[0].name));
  std::vector<float> values, copy;
  int64_t next = 0;  // element of the copies
  for (const Parameter& p : unit.parameters) {
    if (p.kind != ParameterKind::kEmbedding || p.part == AdapterPart::kRows) continue;
    // low-rank parts are small; a matrix is copied in pieces
    const int64_t piece = p.part == AdapterPart::kWhole ? kReadElements : p.num_elements();
    for (int64_t begin = 0; begin < p.num_elements(); begin += piece) {
      const int64_t size = std::min(piece, p.num_elements() - begin);
      values.resize(size);
      tensors.read_range(unit, p.offset + begin, p.offset + begin + size, values);
      if (p.part != AdapterPart::kWhole) {
        copy.resize(size);
        for (int64_t i = 0; i < size; ++i) copy[i % p.shape[1] * p.shape[0] + i / p.shape[1]] = values[i];
        values.swap(copy);
      }
      write_unit_range(plan, temporary, 1, next, next + size, values);
      next += size;
    }
  }
}

}  // namespace

ExportPlan plan_adapter_export(const UnitLayout& unit, bool is_tied) {
  constexpr int64_t kOneFile = INT64_MAX;
  std::vector<UnitLayout> units = {unit};
  if (is_tied) units.push_back(head_copies(unit));
  return plan_export(units, Dtype::kF32, kOneFile, {peft_tensor_name, kAdapterStem});
}

std::vector<int64_t> adapter_checksums(const UnitLayout& unit, int64_t begin, int64_t end,
                                       std::span<const float> values) {
  check(begin >= 0 && begin <= end && std::ssize(values) == end - begin, "values fill a range of the unit");
  std::vector<int64_t> sums;
  for (const Parameter& parameter : unit.parameters) {
    const int64_t first = std::max(begin, parameter.offset);
    const int64_t last = std::min(end, parameter.offset + parameter.num_elements());
    uint64_t sum = 0;
    for (int64_t i = first; i < last; ++i) {
      const auto bits = std::bit_cast<uint32_t>(values[i - begin]);
      sum += (uint64_t{bits} + 1) * weight_of_place(i - parameter.offset);
    }
    sums.push_back(static_cast<int64_t>(sum & kChecksumMask));
  }
  return sums;
}

void finish_adapter_export(const ExportPlan& plan, const std::string& temporary, const LoraConfig& config,
                           const UnitLayout& unit, std::span<const int64_t> checksums) {
  check(checksums.size() == unit.parameters.size() && plan.files.size() == 1,
        "the checksums are of the plan's tensors");
  if (plan.units.size() > 1) write_copies(plan, temporary, unit);
  sync_export_files(plan, temporary);
  const PeftTensors tensors(join_path(temporary, plan.files[0].name));
  check_peft_tensors(tensors, unit, {});
  std::vector<int64_t> found(checksums.size(), 0);
  std::vector<float> values;
  for (int64_t begin = 0; begin < unit.num_elements; begin += kReadElements) {
    const int64_t end = std::min(begin + kReadElements, unit.num_elements);
    values.resize(end - begin);
    tensors.read_range(unit, begin, end, values);
    const std::vector<int64_t> sums = adapter_checksums(unit, begin, end, values);
    for (size_t i = 0; i < sums.size(); ++i) found[i] += sums[i];
  }
  for (size_t i = 0; i < found.size(); ++i)
    if ((static_cast<uint64_t>(found[i] ^ checksums[i]) & kChecksumMask) != 0)
      throw_error<DataError>("{}: tensor {}: expected what the ranks wrote, read something else; was the disk full?",
                             tensors.file().path(), peft_tensor_name(unit.parameters[i]));
  write_new_file(join_path(temporary, kLoraConfigFile), render_lora_config(config));
  sync_directory(temporary);
}

}  // namespace plumb
