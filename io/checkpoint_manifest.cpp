#include "io/checkpoint_manifest.hpp"

#include "lib/base/check.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr const char* kFormat = "plumb checkpoint";
constexpr int64_t kVersion = 1;
constexpr int64_t kMaxRanks = 1 << 20;
constexpr int64_t kMaxElements = int64_t{1} << 40;  // so that no product or sum below overflows
constexpr int64_t kMaxUnits = 1 << 16;

/// Reads fields of objects that anybody may have written.
class FieldReader {
 public:
  explicit FieldReader(const std::string& path) : path_(path) {}

  const ordered_json& field(const ordered_json& object, const char* key) const {
    if (!object.is_object() || !object.contains(key)) fail(key, "a value");
    return object[key];
  }
  int64_t integer(const ordered_json& object, const char* key, int64_t least, int64_t most) const {
    const ordered_json& value = field(object, key);
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
    for (const ordered_json& size : reader.array(entry, "shape")) {
      if (!size.is_number_integer()) reader.fail("shape", "whole numbers");
      p.shape.push_back(size.get<int64_t>());
    }
  }
  return unit;
}

CheckpointFile parse_file(const FieldReader& reader, const ordered_json& object, int64_t expected_bytes) {
  CheckpointFile file;
  file.num_bytes = reader.integer(object, "bytes", expected_bytes, expected_bytes);
  for (const ordered_json& checksum : reader.array(object, "checksums")) {
    if (!checksum.is_string()) reader.fail("checksums", "texts");
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
    const CheckpointFile& file = manifest.files[static_cast<size_t>(rank)];
    json["files"].push_back({{"name", checkpoint_file_name(rank, manifest.num_ranks())},
                             {"bytes", file.num_bytes},
                             {"checksums", file.checksums}});
  }
  return json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

CheckpointManifest parse_manifest(const std::string& text, const std::string& path) {
  const FieldReader reader(path);
  const ordered_json json = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw_error<DataError>("{}: expected JSON, got something else", path);
  if (reader.text(json, "format") != kFormat) reader.fail("format", kFormat);
  reader.integer(json, "version", kVersion, kVersion);
  reader.integer(json, "block_bytes", kCheckpointBlockBytes, kCheckpointBlockBytes);
  const int64_t num_ranks = reader.integer(json, "ranks", 1, kMaxRanks);
  CheckpointManifest manifest;
  manifest.step = reader.integer(json, "step", 0, int64_t{1} << 40);
  manifest.run = reader.field(json, "run");
  if (std::ssize(reader.array(json, "units")) > kMaxUnits) reader.fail("units", "fewer units");
  for (const ordered_json& unit : json["units"]) manifest.units.push_back(parse_unit(reader, unit, num_ranks));
  const ordered_json& files = reader.array(json, "files");
  if (std::ssize(files) != num_ranks) reader.fail("files", fmt::format("{} of them", num_ranks));
  for (int rank = 0; rank < num_ranks; ++rank)
    manifest.files.push_back(
        parse_file(reader, files[static_cast<size_t>(rank)], checkpoint_file_bytes(manifest.units, rank)));
  return manifest;
}

}  // namespace plumb
