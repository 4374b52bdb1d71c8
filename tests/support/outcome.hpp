// The part of a run that must not depend on the number of ranks, on kills or on restarts: every metric, as text, and
// every byte of the exported weights.
#pragma once

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

namespace plumb::test {

struct Outcome {
  std::vector<std::string> metrics;  // lines of metrics.jsonl, without times and memory
  std::string weights;               // of the model or adapter; empty before the export

  bool operator==(const Outcome&) const = default;
};

void PrintTo(const Outcome& outcome, std::ostream* out);

/// Reads the output directory of a run that may have been killed. Throws std::runtime_error if it has no metrics.jsonl.
Outcome read_outcome(const std::string& output_dir);

/// Outcomes by stage, from the output directory of a pipeline. Stages without exported weights are omitted.
std::map<std::string, Outcome> read_outcomes(const std::string& output_dir);

/// Describes the first difference; empty if both are equal.
std::string difference(const std::map<std::string, Outcome>& got, const std::map<std::string, Outcome>& expected);

}  // namespace plumb::test
