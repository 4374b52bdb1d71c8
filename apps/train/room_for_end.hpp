// The disk space that the end of a run needs, for a checkpoint of its last step and for the exported model: taken
// before the first step, so that a disk that others fill later costs neither. Given back for every save, which may use
// it, and taken again.
#pragma once

#include <cstdint>
#include <string>

#include "apps/run/control.hpp"
#include "io/file/reserved_room.hpp"
#include "partition/communicator.hpp"

namespace plumb {

class RoomForEnd {
 public:
  /// Takes nothing yet. Rank 0 holds the space; on other ranks only the collective function does anything.
  RoomForEnd(const Communicator& comm, const std::string& output_dir, int64_t checkpoint_bytes, int64_t model_bytes);

  /// Takes what is not held. Warns where the disk has it no longer.
  void take();
  /// Right before a checkpoint is written.
  void give_back_for_checkpoint();
  /// Right before the model is exported.
  void give_back();

  /// Collective, after the last step could not be saved: waits until the disk has room, for a checkpoint (returns true:
  /// try again) or at least for the model (returns false). Returns false at once if it was not room that lacked. Throws
  /// StoppedRun if the run is to stop.
  bool wait_for_checkpoint(int64_t step, RunControl& control);

 private:
  void warn(const std::string& what, int64_t num_bytes, const std::string& consequence) const;

  const Communicator& comm_;
  std::string output_dir_;
  ReservedRoom checkpoint_;
  ReservedRoom model_;
  bool has_warned_ = false;  // of what lacks now
};

}  // namespace plumb
