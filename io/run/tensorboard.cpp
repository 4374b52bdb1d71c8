#include "io/run/tensorboard.hpp"

#include <unistd.h>

#include <array>
#include <bit>
#include <limits>

#include "io/file/file.hpp"
#include "io/file/host_name.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"

namespace plumb {
namespace {

// protobuf: a key is (field << 3) | wire type; types 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes
constexpr char kEventWallTime = 1 << 3 | 1;
constexpr char kEventStep = 2 << 3 | 0;
constexpr char kEventFileVersion = 3 << 3 | 2;
constexpr char kEventSummary = 5 << 3 | 2;
constexpr char kSummaryValue = 1 << 3 | 2;
constexpr char kValueTag = 1 << 3 | 2;
constexpr char kValueSimple = 2 << 3 | 5;

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
    table[i] = crc;
  }
  return table;
}

/// Masked because the CRC of data that itself contains CRCs is weak.
uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class Unsigned>
void append_little_endian(std::string& out, Unsigned value) {
  for (size_t i = 0; i < sizeof(Unsigned); ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void append_bytes(std::string& out, char key, std::string_view bytes) {
  out += key;
  append_varint(out, bytes.size());
  out += bytes;
}

std::string event_at(double wall_seconds) {
  std::string event(1, kEventWallTime);
  append_little_endian(event, std::bit_cast<uint64_t>(wall_seconds));
  return event;
}

std::string tag_of(std::string_view key) {
  const bool is_evaluation = key.starts_with("eval_");
  std::string tag = is_evaluation ? "eval/" : "train/";
  // no other sanitizing is needed: TensorBoard accepts any UTF-8
  for (const char c : key.substr(is_evaluation ? 5 : 0)) tag += static_cast<unsigned char>(c) < 0x80 ? c : '?';
  return tag;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::string tfrecord_frame(std::string_view bytes) {
  std::string frame;
  append_little_endian(frame, static_cast<uint64_t>(bytes.size()));
  append_little_endian(frame, masked_crc32c(frame));
  frame += bytes;
  append_little_endian(frame, masked_crc32c(bytes));
  return frame;
}

std::string version_event(double wall_seconds) {
  std::string event = event_at(wall_seconds);
  append_bytes(event, kEventFileVersion, "brain.Event:2");
  return event;
}

std::string scalars_event(double wall_seconds, int64_t step, const nlohmann::ordered_json& metrics) {
  std::string summary;
  for (const auto& [key, number] : metrics.items()) {
    if (key == "step" || (!number.is_number() && !number.is_null())) continue;
    std::string value;
    append_bytes(value, kValueTag, tag_of(key));
    value += kValueSimple;
    const double scalar = number.is_null() ? std::numeric_limits<double>::quiet_NaN() : number.get<double>();
    append_little_endian(value, std::bit_cast<uint32_t>(static_cast<float>(scalar)));
    append_bytes(summary, kSummaryValue, value);
  }
  std::string event = event_at(wall_seconds);
  event += kEventStep;
  append_varint(event, static_cast<uint64_t>(step));
  append_bytes(event, kEventSummary, summary);
  return event;
}

static std::string event_file_of(const std::string& directory, double now) {
  return join_path(directory,
                   fmt::format("events.out.tfevents.{}.{}.{}", static_cast<int64_t>(now), host_name(), ::getpid()));
}

EventFile::EventFile(const std::string& directory) : file_(event_file_of(directory, wall_seconds())) {
  file_.append(tfrecord_frame(version_event(wall_seconds())));
}

void EventFile::write(const nlohmann::ordered_json& metrics) {
  file_.append(tfrecord_frame(scalars_event(wall_seconds(), metrics.value("step", int64_t{0}), metrics)));
}

}  // namespace plumb
