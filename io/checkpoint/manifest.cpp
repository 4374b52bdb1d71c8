#include "io/checkpoint/manifest.hpp"

#include <optional>

#include "lib/base/check.hpp"
#include "lib/base/strict_json.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr const char* kFormat = "plumb checkpoint";
constexpr int64_t kVersion = 1;
constexpr int64_t kMaxRanks = 1 << 20;
constexpr int64_t kMaxElements = int64_t{1} << 40;  // so that no product or sum below overflows
constexpr int64_t kMaxUnits = 1 << 14;
constexpr int64_t kMaxUnitsOfRanks = 1 << 26;
constexpr size_t kChecksumDigits = 32;

/// Reads fields of untrusted objects.
class FieldReader {
 public:
  explicit FieldReader(const std::string& path) : path_(path) {}

  const ordered_json& field(const ordered_json& object, const char* key) const {
    if (!object.is_object() || !object.contains(key)) fail(key, "a value");
    return object[key];
  }
  int64_t integer(const ordered_json& object, const char* key, int64_t least, int64_t most) const {
    return integer_value(field(object, key), key, least, most);
  }
  int64_t integer_value(const ordered_json& value, const char* key, int64_t least, int64_t most) const {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) ||
        value.get<int64_t>() < least || value.get<int64_t>() > most)
      fail(key, fmt::format("a whole number from {} to {}", least, most));
    return value.get<int64_t>();
  }
  std::string text(const ordered_json& object, const char* key) const {
    const ordered_json& value = field(object, key);
    if (!value.is_string()) fail(key, "text");
    return value.get<std::string>();
  }
  const ordered_json& array(const ordered_json& object, const char* key) const {
    const ordered_json& value = field(object, key);
    if (!value.is_array()) fail(key, "a list");
    return value;
  }
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    throw_error<DataError>("{}: \"{}\": expected {}", path_, key, expected);
  }

 private:
  const std::string& path_;
};

CheckpointUnit parse_unit(const FieldReader& reader, const ordered_json& object, int64_t num_ranks) {
  CheckpointUnit unit;
  unit.name = reader.text(object, "name");
  unit.num_elements = reader.integer(object, "num_elements", 1, kMaxElements);
  unit.shard_elements = reader.integer(object, "shard_elements", 1, kMaxElements);
  const bool fits = unit.shard_elements % kShardAlignment == 0 && unit.shard_elements * num_ranks >= unit.num_elements;
  if (!fits) reader.fail("shard_elements", fmt::format("a multiple of {} that covers the unit", kShardAlignment));
  const std::string moments = reader.text(object, "moments");
  if (moments != "float32" && moments != "8bit") reader.fail("moments", "float32 or 8bit");
  unit.has_8bit_moments = moments == "8bit";
  for (const ordered_json& entry : reader.array(object, "parameters")) {
    CheckpointParameter& p = unit.parameters.emplace_back();
    p.name = reader.text(entry, "name");
    p.offset = reader.integer(entry, "offset", 0, kMaxElements);
    int64_t num_elements = 1;
    for (const ordered_json& size : reader.array(entry, "shape")) {
      p.shape.push_back(reader.integer_value(size, "shape", 1, unit.num_elements / num_elements));
      num_elements *= p.shape.back();
    }
    if (num_elements > unit.num_elements - p.offset) reader.fail("shape", "a parameter that lies within its unit");
  }
  return unit;
}

bool is_checksum(const ordered_json& value) {
  if (!value.is_string()) return false;
  const std::string& digits = value.get_ref<const std::string&>();
  return digits.size() == kChecksumDigits && digits.find_first_not_of("0123456789abcdef") == std::string::npos;
}

CheckpointFile parse_file(const FieldReader& reader, const ordered_json& object, const std::string& name,
                          int64_t expected_bytes) {
  CheckpointFile file;
  if (reader.text(object, "name") != name) reader.fail("name", name);
  file.num_bytes = reader.integer(object, "bytes", expected_bytes, expected_bytes);
  for (const ordered_json& checksum : reader.array(object, "checksums")) {
    if (!is_checksum(checksum)) reader.fail("checksums", fmt::format("{} hexadecimal digits", kChecksumDigits));
    file.checksums.push_back(checksum.get<std::string>());
  }
  const int64_t num_blocks = (file.num_bytes + kCheckpointBlockBytes - 1) / kCheckpointBlockBytes;
  if (std::ssize(file.checksums) != num_blocks) reader.fail("checksums", fmt::format("{} of them", num_blocks));
  return file;
}

}  // namespace

std::string render_manifest(const CheckpointManifest& manifest) {
  ordered_json json = {{"format", kFormat},
                       {"version", kVersion},
                       {"step", manifest.step},
                       {"ranks", manifest.num_ranks()},
                       {"block_bytes", kCheckpointBlockBytes},
                       {"run", manifest.run}};
  json["units"] = ordered_json::array();
  for (const CheckpointUnit& unit : manifest.units) {
    ordered_json parameters = ordered_json::array();
    for (const CheckpointParameter& p : unit.parameters)
      parameters.push_back({{"name", p.name}, {"offset", p.offset}, {"shape", p.shape}});
    json["units"].push_back({{"name", unit.name},
                             {"num_elements", unit.num_elements},
                             {"shard_elements", unit.shard_elements},
                             {"moments", unit.has_8bit_moments ? "8bit" : "float32"},
                             {"parameters", parameters}});
  }
  json["files"] = ordered_json::array();
  for (int rank = 0; rank < manifest.num_ranks(); ++rank) {
    const CheckpointFile& file = manifest.files[rank];
    json["files"].push_back({{"name", checkpoint_file_name(rank, manifest.num_ranks())},
                             {"bytes", file.num_bytes},
                             {"checksums", file.checksums}});
  }
  return json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

CheckpointManifest parse_manifest(const std::string& text, const std::string& path) {
  const FieldReader reader(path);
  const auto json = parse_strict_json<ordered_json>(
      text, [&](std::optional<size_t>, const std::string& reason) { throw_error<DataError>("{}: {}", path, reason); });
  if (reader.text(json, "format") != kFormat) reader.fail("format", kFormat);
  reader.integer(json, "version", kVersion, kVersion);
  reader.integer(json, "block_bytes", kCheckpointBlockBytes, kCheckpointBlockBytes);
  const int64_t num_ranks = reader.integer(json, "ranks", 1, kMaxRanks);
  CheckpointManifest manifest;
  manifest.step = reader.integer(json, "step", 0, int64_t{1} << 40);
  manifest.run = reader.field(json, "run");
  const int64_t num_units = std::ssize(reader.array(json, "units"));
  if (num_units > kMaxUnits || num_units * num_ranks > kMaxUnitsOfRanks) reader.fail("units", "fewer units");
  for (const ordered_json& unit : json["units"]) manifest.units.push_back(parse_unit(reader, unit, num_ranks));
  const ordered_json& files = reader.array(json, "files");
  if (std::ssize(files) != num_ranks) reader.fail("files", fmt::format("{} of them", num_ranks));
  for (int rank = 0; rank < num_ranks; ++rank)
    manifest.files.push_back(parse_file(reader, files[rank], checkpoint_file_name(rank, static_cast<int>(num_ranks)),
                                        checkpoint_file_bytes(manifest.units, rank)));
  return manifest;
}

}  // namespace plumb
