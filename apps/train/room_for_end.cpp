#include "apps/train/room_for_end.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "lib/base/log.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

constexpr int64_t kOtherBytes = 1 << 20;  // manifest, notes, report, the last lines of logs
constexpr std::chrono::seconds kBetweenTries{1};
constexpr int64_t kTriesPerMessage = 600;

}  // namespace

RoomForEnd::RoomForEnd(const Communicator& comm, const std::string& output_dir, int64_t checkpoint_bytes,
                       int64_t model_bytes)
    : comm_(comm),
      output_dir_(output_dir),
      checkpoint_(output_dir, checkpoint_bytes),
      model_(output_dir, model_bytes + kOtherBytes) {}

void RoomForEnd::take() {
  if (comm_.rank() != 0) return;
  const bool has_model = model_.take(), has_checkpoint = checkpoint_.take();  // the model first: it ends the run
  const bool is_lacking = !has_model || !has_checkpoint;
  if (!is_lacking || has_warned_) {
    has_warned_ = is_lacking;
    return;
  }
  has_warned_ = true;
  if (has_model)
    warn("a checkpoint", checkpoint_.num_bytes(), "or the run continues, and ends, without another checkpoint");
  else
    warn("the model and a last checkpoint", model_.num_bytes() + (has_checkpoint ? 0 : checkpoint_.num_bytes()),
         "before the last step, or the run waits there for it");
}

void RoomForEnd::warn(const std::string& what, int64_t num_bytes, const std::string& consequence) const {
  log_warning("{}: expected {} of free disk space for {}, got {}; make room {}", output_dir_, render_bytes(num_bytes),
              what, render_bytes(std::max<int64_t>(0, free_disk_bytes(output_dir_))), consequence);
}

void RoomForEnd::give_back_for_checkpoint() { checkpoint_.give_back(); }

void RoomForEnd::give_back() {
  checkpoint_.give_back();
  model_.give_back();
}

bool RoomForEnd::wait_for_checkpoint(int64_t step, RunControl& control) {
  enum class Room { kNone, kModel, kCheckpoint };
  for (int64_t tries = 0;; ++tries) {
    const Room room = comm_.from_rank0([&] {
      const bool has_model = model_.take();
      if (checkpoint_.take()) return Room::kCheckpoint;
      return has_model ? Room::kModel : Room::kNone;
    });
    if (room == Room::kCheckpoint) return tries > 0;
    if (room == Room::kModel) return false;
    if (comm_.any(control.wants_stop())) control.stop(step, /*is_saved=*/false);
    if (comm_.rank() == 0 && tries % kTriesPerMessage == 0)
      warn("the model or a checkpoint", std::min(model_.num_bytes(), checkpoint_.num_bytes()),
           fmt::format(
               "now: all {} steps are done, and the run waits for it, since only its memory has the last of them",
               step));
    std::this_thread::sleep_for(kBetweenTries);
  }
}

}  // namespace plumb
