// The source of what a stage trains on and is evaluated on: rows of data, or completions that the model makes
// itself.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/train/trainer.hpp"
#include "io/run/notes.hpp"
#include "lib/model/batch.hpp"

namespace plumb {

class StepSource {
 public:
  virtual ~StepSource() = default;

  /// Collective: this rank's micro-batches of a step, counted from 1. Called for each step in order, from the first one
  /// that this start takes.
  virtual std::vector<MicroBatch> batches_of(int64_t step) = 0;

  /// Collective, after a step that was taken: adds to its results what the objective does not know.
  virtual void finish_step(int64_t /*step*/, StepStats& /*stats*/) {}

  /// Local, after finish_step(): why the run is to end with a checkpoint of this step; "": it does not. The same on
  /// every rank.
  virtual std::string stop_reason() const { return {}; }

  /// Local, after the last step: adds samples to the notes of the stage.
  virtual void add_samples(StageNotes& /*notes*/) const {}

  /// Collective, before a checkpoint of this step: saves what does not fit into state(). Throws AgreedError.
  virtual void save(int64_t /*step*/) {}
  /// Local: what a run needs beside its model to continue after the last step; null: nothing.
  virtual nlohmann::ordered_json state() const { return {}; }

  virtual bool has_evaluation() const = 0;
  /// Collective: the stage's metrics on held-out rows, after this step.
  virtual EvaluationStats evaluate(int64_t step) = 0;
  /// The names of its metrics.
  virtual std::vector<std::string> evaluated_metrics() const = 0;
};

}  // namespace plumb
