#include "tests/support/outcome.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <ostream>
#include <sstream>
#include <stdexcept>

namespace plumb::test {

namespace fs = std::filesystem;

namespace {

std::string content_of(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

/// All weight files, concatenated in the order of their names.
std::string weights_in(const std::string& output_dir) {
  std::vector<std::string> paths;
  for (const char* folder : {"/adapter", "/model"}) {
    if (!fs::exists(output_dir + folder)) continue;
    for (const auto& entry : fs::directory_iterator(output_dir + folder))
      if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::string weights;
  for (const std::string& path : paths) weights += content_of(path);
  return weights;
}

}  // namespace

void PrintTo(const Outcome& outcome, std::ostream* out) {
  for (const std::string& line : outcome.metrics) *out << line << "\n";
  *out << outcome.weights.size() << " bytes of weights, hash " << std::hash<std::string>()(outcome.weights);
}

Outcome read_outcome(const std::string& output_dir) {
  std::ifstream log(output_dir + "/metrics.jsonl");
  if (!log) throw std::runtime_error(output_dir + ": no metrics.jsonl");
  Outcome outcome;
  for (std::string line; std::getline(log, line);) {
    nlohmann::ordered_json metrics = nlohmann::ordered_json::parse(line);
    for (const char* key : {"step_seconds", "tokens_per_second", "memory_bytes", "generation_seconds",
                            "generation_idle", "reward_seconds"})
      metrics.erase(key);
    outcome.metrics.push_back(metrics.dump());
  }
  outcome.weights = weights_in(output_dir);
  return outcome;
}

std::map<std::string, Outcome> read_outcomes(const std::string& output_dir) {
  std::map<std::string, Outcome> outcomes;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    if (!fs::exists(entry.path() / "metrics.jsonl")) continue;
    Outcome outcome = read_outcome(entry.path());
    if (!outcome.weights.empty()) outcomes[entry.path().filename()] = std::move(outcome);
  }
  return outcomes;
}

std::string difference(const std::map<std::string, Outcome>& got, const std::map<std::string, Outcome>& expected) {
  for (const auto& [stage, outcome] : expected) {
    if (!got.contains(stage)) return stage + " has not finished";
    const std::vector<std::string>&lines = outcome.metrics, &others = got.at(stage).metrics;
    if (others.size() != lines.size())
      return stage + " logged " + std::to_string(others.size()) + " lines instead of " + std::to_string(lines.size());
    const auto differs = std::mismatch(lines.begin(), lines.end(), others.begin());
    if (differs.first != lines.end()) return stage + ": " + *differs.second + " instead of " + *differs.first;
    if (got.at(stage).weights != outcome.weights) return "the exported weights of " + stage + " have other bytes";
  }
  return "";
}

}  // namespace plumb::test
