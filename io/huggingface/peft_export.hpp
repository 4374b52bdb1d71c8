// Writes a PEFT adapter directory from all ranks at once, with the calls of hf_export.hpp between plan and finish. The
// files are read back before they are renamed into place, so that a partial or empty adapter cannot appear.
//
//   all:      plan = plan_adapter_export(unit, is_tied)
//   rank 0:   AtomicDirectory exported(directory, ...); create_export_files(plan, temporary)
//   each:     write_unit_range(plan, temporary, 0, begin, end, values); sync_export_files(plan, temporary)
//             sums = adapter_checksums(unit, begin, end, values)     their sum over the ranks goes to rank 0
//   rank 0:   finish_adapter_export(plan, temporary, config, unit, sums); exported.publish()
//
// where temporary = exported.temporary_path().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/huggingface/hf_export.hpp"
#include "io/huggingface/peft_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// Plans one float32 file with the tensors of the unit "adapter". is_tied: embedding and head are one matrix under it,
/// so that what is trained of the embedding is also written under the head's names, which PEFT needs; these copies are
/// the second unit of the plan. The plan is the same on every rank.
ExportPlan plan_adapter_export(const UnitLayout& unit, bool is_tied);

/// One checksum per parameter of the unit, over the bits and positions of its elements in [begin, end). The checksums
/// of disjoint ranges add up; sums over fewer than 2^20 ranges do not overflow.
std::vector<int64_t> adapter_checksums(const UnitLayout& unit, int64_t begin, int64_t end,
                                       std::span<const float> values);

/// Rank 0 only: writes the copies and adapter_config.json, and verifies that the file contains what the ranks wrote.
/// Throws DataError if a tensor is missing, not finite, or does not match `checksums`.
void finish_adapter_export(const ExportPlan& plan, const std::string& temporary, const LoraConfig& config,
                           const UnitLayout& unit, std::span<const int64_t> checksums);

}  // namespace plumb
