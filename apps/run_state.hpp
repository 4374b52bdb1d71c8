// What a run carries from step to step beside model and log; with it a run that goes on from a checkpoint decides as
// one that was never stopped. The numbers are those that all ranks have alike.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "apps/trainer.hpp"

namespace plumb {

struct RunState {
  TrainerState trainer;
  int64_t total_tokens = 0;
  int64_t rollback_step = 0;       // of the checkpoint that a rollback goes back to; 0: there is none yet
  int64_t rollback_num_steps = 0;  // that its history had
  int64_t num_rollbacks = 0;       // to that one
};

/// Without trainer.num_steps_done, which the checkpoint knows.
nlohmann::ordered_json to_json(const RunState& state);
/// Takes anything: what is not there, or no number, is as at the start of a run.
RunState run_state_from_json(const nlohmann::ordered_json& json, int64_t num_steps_done);

}  // namespace plumb
