#include "io/run/tensorboard.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <vector>

#include "io/run/metrics_log.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

/// An independent bit-by-bit implementation.
uint32_t slow_crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

template <class Value>
Value value_at(std::string_view bytes, size_t offset) {
  Value value;
  std::memcpy(&value, bytes.substr(offset, sizeof(Value)).data(), sizeof(Value));
  return value;
}

bool has_masked_crc(std::string_view bytes, uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return ((rotated >> 17) | (rotated << 15)) == slow_crc32c(bytes);
}

std::vector<std::string> records_of(std::string_view file) {
  std::vector<std::string> records;
  while (!file.empty()) {
    const auto size = value_at<uint64_t>(file, 0);
    EXPECT_TRUE(has_masked_crc(file.substr(0, 8), value_at<uint32_t>(file, 8)));
    const std::string_view bytes = file.substr(12, size);
    EXPECT_TRUE(has_masked_crc(bytes, value_at<uint32_t>(file, 12 + size)));
    records.emplace_back(bytes);
    file.remove_prefix(16 + size);
  }
  return records;
}

uint64_t take_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

std::string take_bytes(std::string_view& bytes) {
  const uint64_t size = take_varint(bytes);
  std::string taken(bytes.substr(0, size));
  bytes.remove_prefix(size);
  return taken;
}

struct ParsedEvent {
  double wall_seconds = 0;
  uint64_t step = 0;
  std::string file_version;
  std::map<std::string, float> scalars;
};

ParsedEvent parse_event(std::string_view bytes) {
  ParsedEvent event;
  while (!bytes.empty()) {
    const uint64_t key = take_varint(bytes);
    if (key == 0x09) {
      event.wall_seconds = value_at<double>(bytes, 0);
      bytes.remove_prefix(8);
    } else if (key == 0x10) {
      event.step = take_varint(bytes);
    } else if (key == 0x1a) {
      event.file_version = take_bytes(bytes);
    } else if (key == 0x2a) {
      const std::string summary = take_bytes(bytes);
      for (std::string_view values = summary; !values.empty();) {
        EXPECT_EQ(take_varint(values), 0x0au);
        const std::string value = take_bytes(values);
        std::string_view rest = value;
        EXPECT_EQ(take_varint(rest), 0x0au);
        const std::string tag = take_bytes(rest);
        EXPECT_EQ(take_varint(rest), 0x15u);
        EXPECT_EQ(rest.size(), 4u);
        event.scalars[tag] = value_at<float>(rest, 0);
      }
    } else {
      ADD_FAILURE() << "unknown key " << key;
      return event;
    }
  }
  return event;
}

TEST(TensorBoard, CrcIsCastagnoli) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(TensorBoard, FramesMatchTensorFlow) {
  // the first 12 bytes of every event file of TensorFlow
  const std::string event = version_event(0);
  EXPECT_EQ(event, std::string("\x09\0\0\0\0\0\0\0\0\x1a\x0d"
                               "brain.Event:2",
                               24));
  const std::string frame = tfrecord_frame(event);
  ASSERT_EQ(frame.size(), 24u + 16u);
  EXPECT_EQ(frame.substr(0, 12), std::string("\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22", 12));
  EXPECT_EQ(records_of(frame), std::vector{event});
}

TEST(TensorBoard, ScalarsHaveTheNamesOfTransformers) {
  const ParsedEvent event = parse_event(scalars_event(
      12.5, 300,
      {{"step", 300}, {"loss", 0.5}, {"rewards/margins", -2}, {"eval_loss", 3.25}, {"text", "x"}, {"nested", {1, 2}}}));
  EXPECT_EQ(event.wall_seconds, 12.5);
  EXPECT_EQ(event.step, 300u);
  EXPECT_EQ(event.scalars, (std::map<std::string, float>{
                               {"train/loss", 0.5f}, {"train/rewards/margins", -2.0f}, {"eval/loss", 3.25f}}));
}

TEST(TensorBoard, NonFiniteIsNan) {
  const ParsedEvent event = parse_event(scalars_event(0, 1, {{"loss", nullptr}, {"grad_norm", 1e300}}));
  EXPECT_TRUE(std::isnan(event.scalars.at("train/loss")));
  EXPECT_TRUE(std::isinf(event.scalars.at("train/grad_norm")));
}

TEST(TensorBoard, NamesAreUtf8) {
  EXPECT_EQ(parse_event(scalars_event(0, 1, {{"a\xff", 1}})).scalars.count("train/a?"), 1u);
}

TEST(TensorBoard, EveryEventIsFlushed) {
  const TemporaryDirectory directory;
  EventFile events(directory.path());
  EXPECT_EQ(events.path().rfind(directory / "events.out.tfevents.", 0), 0u);
  for (int64_t step = 1; step <= 3; ++step) {
    events.write({{"step", step}, {"loss", 1.0 / static_cast<double>(step)}});
    const auto records = records_of(directory.read(events.path().substr(directory.path().size() + 1)));
    ASSERT_EQ(records.size(), static_cast<size_t>(step) + 1);
    EXPECT_EQ(parse_event(records.front()).file_version, "brain.Event:2");
    EXPECT_EQ(parse_event(records.back()).step, static_cast<uint64_t>(step));
  }
}

TEST(TensorBoard, EventFileIsNextToTheMetrics) {
  const TemporaryDirectory directory;
  MetricsLog(directory / "metrics.jsonl").write({{"step", 1}, {"loss", 2.0}});
  EXPECT_EQ(directory.num_entries(), 2u);
  EXPECT_EQ(directory.read("metrics.jsonl"), "{\"step\":1,\"loss\":2.0}\n");
}

TEST(TensorBoard, MissingDirectoryIsNamed) {
  const TemporaryDirectory directory;
  const std::string message = message_of<InputOutputError>([&] { EventFile(directory / "missing"); });
  EXPECT_NE(message.find("missing/events.out"), std::string::npos) << message;
}

}  // namespace
}  // namespace plumb
