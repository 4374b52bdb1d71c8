// Scalars for TensorBoard. An event file is a TFRecord file of Event messages; both are written by hand, because a
// dependency on protobuf for four fields would cost more than the fields. Rank 0 only. Source: TensorFlow's
// core/lib/io/record_writer.h (frames, masked CRC) and core/util/event.proto; the CRC is RFC 3720's.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "io/file/appended_file.hpp"

namespace plumb {

/// CRC-32C (Castagnoli) of the bytes.
uint32_t crc32c(std::string_view bytes);

/// Length, masked CRC of the length, bytes, masked CRC of the bytes.
std::string tfrecord_frame(std::string_view bytes);

/// The serialized Event that opens a file.
std::string version_event(double wall_seconds);

/// The serialized Event with one scalar per number in `metrics`, without "step" and nested values. Null, the JSON form
/// of non-finite numbers, becomes NaN. "eval_loss" becomes eval/loss and "loss" train/loss, as in transformers.
/// Non-ASCII bytes in a name become '?'.
std::string scalars_event(double wall_seconds, int64_t step, const nlohmann::ordered_json& metrics);

class EventFile {
 public:
  /// Creates events.out.tfevents.SECONDS.HOST.PID in `directory`; throws InputOutputError. A resumed run gets another
  /// file, which TensorBoard joins to the first.
  explicit EventFile(const std::string& directory);

  /// Writes one event, readable by others when this returns unless the disk is full. `metrics` is a line of
  /// metrics.jsonl, with its "step".
  void write(const nlohmann::ordered_json& metrics);

  const std::string& path() const { return file_.path(); }

 private:
  AppendedFile file_;
};

}  // namespace plumb
