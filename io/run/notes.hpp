// The notes of a stage beyond its metrics: facts, tables, samples and warnings. Facts and warnings are also logged as
// they come; all are written to notes.json for the report.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace plumb {

class StageNotes {
 public:
  /// is_shown: also log the notes; true on rank 0.
  explicit StageNotes(bool is_shown) : is_shown_(is_shown) {}

  /// value: text, a number or a boolean.
  void add_fact(const std::string& name, const nlohmann::ordered_json& value);
  void add_warning(const std::string& text);
  void add_table(const std::string& title, const std::vector<std::string>& columns, nlohmann::ordered_json rows);
  /// Named texts and numbers, in order; "prompt" is one of them.
  void add_sample(nlohmann::ordered_json sample);

  /// Rank 0 only: replaces the file; writes none if there are no notes.
  void write(const std::string& path) const;

 private:
  bool is_shown_;
  nlohmann::ordered_json notes_;
};

}  // namespace plumb
