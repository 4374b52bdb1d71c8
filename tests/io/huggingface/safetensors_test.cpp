#include "io/huggingface/safetensors.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "io/huggingface/safetensors_writer.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/safetensors_file.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

/// A file with this header and a buffer of zeros.
std::string file_bytes(const std::string& header, size_t buffer_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(buffer_bytes, '\0');
}

std::string refusal(const std::string& bytes) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("x.safetensors", bytes);
  const std::string message = refusal_of<DataError>([&] { const SafetensorsFile file(path); });
  EXPECT_TRUE(message == kAccepted || message.find(path) != std::string::npos) << "no path in: " << message;
  return message;
}

std::string refusal(const std::string& header, size_t buffer_bytes) {
  return refusal(file_bytes(header, buffer_bytes));
}

/// {"a": a tensor of 4 floats} with one field replaced.
std::string header_of_a(const char* dtype = "\"F32\"", const char* shape = "[2,2]", const char* offsets = "[0,16]") {
  return fmt::format(R"({{"a":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
}

std::string two_tensors(const char* first, const char* second, const char* second_name = "b") {
  return fmt::format(
      R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},"{}":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
      first, second_name, second);
}

TEST(SafetensorsFile, AcceptsWhatTheFormatAllows) {
  EXPECT_EQ(refusal(header_of_a(), 16), "accepted");
  EXPECT_EQ(refusal(header_of_a() + "   \n", 16), "accepted");
  EXPECT_EQ(refusal("{}", 0), "accepted");
  EXPECT_EQ(refusal(R"({"__metadata__":{"format":"pt","n":""}})", 0), "accepted");
  EXPECT_EQ(refusal(header_of_a("\"F32\"", "[]", "[0,4]"), 4), "accepted");
  EXPECT_EQ(refusal(header_of_a("\"F32\"", "[9223372036854775807,9223372036854775807,0]", "[0,0]"), 0), "accepted");
  EXPECT_EQ(refusal(two_tensors("[4,8]", "[0,4]"), 8), "accepted");
  for (const DtypeInfo& info : kDtypes)
    EXPECT_EQ(refusal(header_of_a(fmt::format("\"{}\"", info.name).c_str(), "[1]",
                                  fmt::format("[0,{}]", info.size_bytes).c_str()),
                      info.size_bytes),
              "accepted");
}

TEST(SafetensorsFile, RefusesAFileTruncatedAnywhere) {
  const std::string whole = file_bytes(header_of_a(), 16);
  ASSERT_EQ(refusal(whole), "accepted");
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_NE(refusal(whole.substr(0, length)), "accepted") << length;
  expect_contains(refusal(whole + "x"), {"expected 16 bytes after the header", "got 17"});
}

TEST(SafetensorsFile, RefusesAHeaderLengthBeyondFileOrLimit) {
  for (const uint64_t length : {uint64_t{39}, uint64_t{1} << 40, std::numeric_limits<uint64_t>::max()}) {
    std::string bytes = file_bytes("{}", 36);
    std::memcpy(bytes.data(), &length, 8);
    expect_contains(refusal(bytes), {"at most 38 bytes", std::to_string(length).c_str()});
  }
  const TemporaryDirectory directory;
  const std::string path = directory.write("x", file_bytes("{}", 0));
  std::filesystem::resize_file(path, 200'000'000);  // sparse
  const uint64_t length = 100'000'001;
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).write(reinterpret_cast<const char*>(&length), 8);
  expect_contains(message_of<DataError>([&] { SafetensorsFile file(path); }), {"at most 100000000", "100000001"});
}

TEST(SafetensorsFile, RefusesAHeaderThatIsNotOneJsonObject) {
  expect_contains(refusal("", 0), {"starts with '{'"});
  expect_contains(refusal(" " + header_of_a(), 16), {"starts with '{'"});
  expect_contains(refusal("[]", 0), {"starts with '{'"});
  expect_contains(refusal("{}{}", 0), {"header byte"});
  expect_contains(refusal(std::string("{}\0", 3), 0), {"NUL"});
  expect_contains(refusal("{\"\xff\":1}", 0), {"header byte"});
  expect_contains(refusal("{" + std::string(100'000, '['), 0), {"header"});
  expect_contains(refusal("{\"a\":" + std::string(100'000, '{'), 0), {"header"});
  expect_contains(refusal(R"({"a":)" + std::string(100'000, '['), 0), {"a: expected the object"});
  expect_contains(refusal(R"({"a":1})", 0), {"a: expected the object", "number"});
  expect_contains(refusal(R"({"a":null})", 0), {"null"});
  expect_contains(refusal(R"({"__metadata__":{"n":1}})", 0), {"__metadata__: n", "a number"});
  expect_contains(refusal(R"({"__metadata__":{"n":{}}})", 0), {"__metadata__: n", "an object"});
  expect_contains(refusal(R"({"__metadata__":{"n":"1","n":"2"}})", 0), {"__metadata__: n", "twice"});
  expect_contains(refusal(R"({"__metadata__":[]})", 0), {"__metadata__"});
}

TEST(SafetensorsFile, RefusesDuplicateOrUnprintableNames) {
  expect_contains(refusal(two_tensors("[0,4]", "[4,8]", "a"), 8), {"tensor a", "twice"});
  expect_contains(refusal(R"({"__metadata__":{},"__metadata__":{}})", 0), {"__metadata__", "twice"});
  expect_contains(refusal(R"({"\u001b[2J":1})", 0), {"printable"});
  expect_contains(refusal("{\"" + std::string(600, 'a') + "\":1}", 0), {"600 bytes"});
}

TEST(SafetensorsFile, RefusesUnknownOrMissingFields) {
  expect_contains(refusal(header_of_a("\"F31\""), 16), {"tensor a", "F32, BF16, F16", "F31"});
  expect_contains(refusal(header_of_a("32"), 16), {"tensor a: dtype", "a number"});
  expect_contains(refusal(R"({"a":{"dtype":"F32","shape":[1]}})", 4), {"tensor a", "no data_offsets"});
  expect_contains(refusal(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), {"tensor a", "no shape"});
  expect_contains(refusal(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4), {"tensor a", "no dtype"});
  expect_contains(refusal(R"({"a":{}})", 0), {"tensor a", "no dtype"});
  expect_contains(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":"y"}})", 4), {"tensor a: x"});
  expect_contains(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":[1]}})", 4), {"tensor a: x"});
  expect_contains(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"shape":[1]}})", 4), {"shape twice"});
  expect_contains(refusal(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
                  {"dtype twice"});
}

TEST(SafetensorsFile, RefusesShapesThatDoNotFitTheirBytes) {
  for (const char* shape : {"[-2,2]", "[2.0,2]", "[\"2\",2]", "[[2],2]", "[null]", "[18446744073709551615]", "4"})
    expect_contains(refusal(header_of_a("\"F32\"", shape), 16), {"tensor a: shape", "got"});
  expect_contains(refusal(header_of_a("\"F32\"", "[1,1,1,1,1,1,1,1,4]"), 16), {"tensor a: shape", "more than 8"});
  expect_contains(refusal(header_of_a("\"F32\"", "[2,3]"), 16), {"tensor a", "24 bytes", "[2, 3]", "16 bytes"});
  expect_contains(refusal(header_of_a("\"F16\""), 16), {"tensor a", "8 bytes for F16"});
  // 2^62 * 4 bytes and 2^32 * 2^32 wrap to zero in 64 bits
  expect_contains(refusal(header_of_a("\"F32\"", "[4611686018427387904]", "[0,0]"), 0), {"tensor a", "63 bits"});
  expect_contains(refusal(header_of_a("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0), {"tensor a", "63 bits"});
}

TEST(SafetensorsFile, RefusesOverlapsGapsAndOffsetsOutOfRange) {
  expect_contains(refusal(header_of_a("\"F32\"", "[2,2]", "[16,0]"), 16), {"tensor a", "ascending", "[16, 0]"});
  expect_contains(refusal(header_of_a("\"F32\"", "[2,2]", "[0]"), 16), {"tensor a", "two numbers"});
  expect_contains(refusal(header_of_a("\"F32\"", "[2,2]", "[0,8,16]"), 16), {"tensor a", "more than 2"});
  expect_contains(refusal(header_of_a("\"F32\"", "[2,2]", "[0,-16]"), 16), {"tensor a", "negative"});
  expect_contains(refusal(header_of_a("\"F32\"", "[2,2]", "[4,20]"), 20), {"tensor a", "hole"});
  expect_contains(refusal(header_of_a(), 12), {"tensor a", "up to 12", "got 16"});
  expect_contains(refusal(header_of_a(), 20), {"expected 16 bytes", "got 20"});
  expect_contains(refusal(two_tensors("[0,4]", "[0,4]"), 4), {"overlap"});
  expect_contains(refusal(two_tensors("[0,4]", "[2,6]"), 6), {"tensor b", "overlap"});
  expect_contains(refusal(two_tensors("[0,4]", "[5,9]"), 9), {"tensor b", "hole"});
  expect_contains(refusal(two_tensors("[0,4]", "[9223372036854775803,9223372036854775807]"), 8), {"tensor b", "hole"});
  expect_contains(refusal("{}", 1), {"expected 0 bytes", "got 1"});
}

class StoredValues : public testing::Test {
 protected:
  template <class Element>
  SafetensorsFile store(Dtype dtype, const std::vector<Element>& elements) {
    const auto bytes = std::as_bytes(std::span(elements));
    const SafetensorsTensor tensors[] = {{{"pad", Dtype::kU8, {3}}, bytes.first(3)},
                                         {{"t", dtype, {static_cast<int64_t>(elements.size())}}, bytes}};
    write_safetensors_file(directory_ / "v.safetensors", tensors, {{"format", "pt"}});
    return SafetensorsFile(directory_ / "v.safetensors");
  }
  TemporaryDirectory directory_;
};

TEST_F(StoredValues, AreReadInAnyRange) {
  std::vector<float> elements(1000);
  for (size_t i = 0; i < elements.size(); ++i) elements[i] = 1.0f / static_cast<float>(i + 1);
  const SafetensorsFile file = store(Dtype::kF32, elements);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.entries().size(), 2u);
  const SafetensorsEntry& entry = file.at("t");
  for (const size_t begin : {0, 1, 500, 999, 1000})
    for (const size_t count : {0, 1, 7, 500}) {
      if (begin + count > elements.size()) continue;
      std::vector<float> values(count);
      file.read(entry, static_cast<int64_t>(begin), std::span<float>(values));
      EXPECT_TRUE(std::equal(values.begin(), values.end(), elements.begin() + static_cast<ptrdiff_t>(begin)));
    }
  std::vector<float> too_many(2);
  EXPECT_THROW(file.read(entry, 999, std::span<float>(too_many)), std::logic_error);
  EXPECT_THROW(file.read(entry, -1, std::span<float>(too_many)), std::logic_error);
}

TEST_F(StoredValues, Bfloat16IsTheUpperHalfOfAFloat) {
  std::vector<uint16_t> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const SafetensorsFile file = store(Dtype::kBf16, all);
  std::vector<float> values(all.size());
  file.read(file.at("t"), 0, std::span<float>(values));
  for (size_t i = 0; i < all.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), static_cast<uint32_t>(i) << 16) << i;
}

TEST_F(StoredValues, Float16IsExactForAllBitPatterns) {
  std::vector<uint16_t> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const SafetensorsFile file = store(Dtype::kF16, all);
  std::vector<float> values(all.size());
  file.read(file.at("t"), 0, std::span<float>(values));
  for (size_t i = 0; i < all.size(); ++i) {
    const int exponent = static_cast<int>(i >> 10 & 31), mantissa = static_cast<int>(i & 1023);
    ASSERT_EQ(std::signbit(values[i]), i >> 15 == 1) << i;
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(values[i]), mantissa != 0) << i;
      ASSERT_EQ(std::isinf(values[i]), mantissa == 0) << i;
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]) >> 13 & 1023, static_cast<uint32_t>(mantissa)) << i;
      continue;
    }
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(std::fabs(values[i]), magnitude) << i;
  }
}

TEST_F(StoredValues, KeepNanPayloadsAndSubnormals) {
  const std::vector<uint32_t> bits = {0x00000001, 0x807fffff, 0x7fc12345, 0xffa00001, 0x7f800000, 0x80000000};
  const SafetensorsFile file = store(Dtype::kF32, bits);
  std::vector<uint32_t> read(bits.size());
  file.read(file.at("t"), 0, std::span(reinterpret_cast<float*>(read.data()), read.size()));
  EXPECT_EQ(read, bits);
}

TEST_F(StoredValues, OtherDtypesAreRefusedByName) {
  const SafetensorsFile file = store(Dtype::kI64, std::vector<int64_t>{1, 2});
  std::vector<float> values(2);
  expect_contains(message_of<DataError>([&] { file.read(file.at("t"), 0, std::span<float>(values)); }),
                  {"tensor t", "F32, BF16, F16 or F64", "I64"});
  expect_contains(message_of<DataError>([&] { file.at("absent"); }), {"tensor absent", "none of that name"});
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST_F(StoredValues, NonFiniteValuesAreFoundWithTheirPlace) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    const SafetensorsFile file = store(Dtype::kF32, std::vector<float>{0.0f, 1.0f, 2.0f, bad, bad});
    std::vector<float> values(3);
    file.read(file.at("t"), 2, std::span<float>(values));
    EXPECT_EQ(find_non_finite(values), 1);
    expect_contains(message_of<DataError>([&] { file.check_finite(file.at("t"), 2, values); }),
                    {"v.safetensors", "tensor t", "element 3", std::isnan(bad) ? "nan" : "inf"});
  }
  const std::vector<float> extremes = {std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(),
                                       -0.0f};
  EXPECT_EQ(find_non_finite(extremes), std::nullopt);
}

TEST_F(StoredValues, TruncationAfterOpeningIsReported) {
  const SafetensorsFile file = store(Dtype::kF32, std::vector<float>(100, 1.0f));
  std::filesystem::resize_file(file.path(), 300);
  std::vector<float> values(100);
  expect_contains(message_of<DataError>([&] { file.read(file.at("t"), 0, std::span<float>(values)); }), {"truncated"});
}

TEST(FloatToBf16, RoundsToNearestEven) {
  const auto rounded = [](uint32_t bits) { return float_to_bf16(std::bit_cast<float>(bits)); };
  EXPECT_EQ(rounded(0x3f807fff), 0x3f80);
  EXPECT_EQ(rounded(0x3f808000), 0x3f80);
  EXPECT_EQ(rounded(0x3f808001), 0x3f81);
  EXPECT_EQ(rounded(0x3f818000), 0x3f82);
  EXPECT_EQ(rounded(0x7f7fffff), 0x7f80);  // beyond the largest bfloat16: infinity
  EXPECT_EQ(rounded(0x00008001), 0x0001);
  EXPECT_EQ(rounded(0x80000000), 0x8000);
  EXPECT_EQ(rounded(0x7f800001), 0x7fc0);  // losing the payload must not turn NaN into infinity
  EXPECT_EQ(rounded(0xffc00000), 0xffc0);
  for (uint32_t i = 0; i < 1 << 16; ++i) {
    const bool is_signalling_nan = (i & 0x7fc0u) == 0x7f80u && (i & 0x3fu) != 0;
    if (is_signalling_nan) continue;
    ASSERT_EQ(float_to_bf16(bf16_to_float(static_cast<uint16_t>(i))), i);
  }
}

TEST(SafetensorsHeader, StartsTheBufferAtAMultipleOfEight) {
  for (int size = 1; size < 20; ++size) {
    const SafetensorsSpec specs[] = {{std::string(size, 'n'), Dtype::kU8, {1}}};
    EXPECT_EQ(render_safetensors_header(specs, {}).size() % 8, 0u);
  }
}

}  // namespace
}  // namespace plumb
