#include "lib/model/rope_config.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/log_once.hpp"

namespace plumb {

using nlohmann::json;

namespace {

using Kind = RopeConfig::Kind;

constexpr double kMinTheta = 1.0, kMaxTheta = 1e15, kMinFactor = 1e-3, kMaxFactor = 1e6;
constexpr int64_t kMaxPositions = 1'000'000'000, kPhi3OriginalLength = 4096;
constexpr const char* kOriginal = "original_max_position_embeddings";
constexpr const char* kFullAttention = "full_attention";
constexpr const char* kSlidingAttention = "sliding_attention";

constexpr std::pair<Kind, std::string_view> kKinds[] = {
    {Kind::kDefault, "default"}, {Kind::kLinear, "linear"}, {Kind::kLlama3, "llama3"},
    {Kind::kDynamic, "dynamic"}, {Kind::kYarn, "yarn"},     {Kind::kLongRope, "longrope"},
};

Kind parse_kind(const ConfigReader& reader, Family family) {
  const char* key = reader.has("rope_type") || !reader.has("type") ? "rope_type" : "type";
  reader.has("type");  // files that have both mean rope_type
  std::string name = reader.string_or(key, "default");
  // early files of Phi-3 call their longrope so
  if (family == Family::kPhi3 && (name == "su" || name == "yarn")) name = "longrope";
  std::string known;
  for (const auto& [kind, kind_name] : kKinds) {
    if (name == kind_name) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind_name);
  }
  reader.fail(key, "one of " + known);
}

std::optional<double> optional_number(const ConfigReader& reader, const char* key, double low, double high) {
  return reader.is_null_or_absent(key) ? std::nullopt : std::optional(reader.number(key, low, high));
}

std::vector<double> parse_factors(const ConfigReader& reader, const char* key, int64_t num_pairs) {
  const std::string expected =
      fmt::format("an array of {} positive numbers, one for each pair that rotates", num_pairs);
  if (!reader.has(key)) reader.fail(key, expected);
  const json& values = reader.object().at(key);
  if (!values.is_array() || std::ssize(values) != num_pairs) reader.fail(key, expected);
  std::vector<double> factors;
  for (const json& value : values) {
    if (!value.is_number() || !(value.get<double>() >= kMinFactor && value.get<double>() <= kMaxFactor))
      reader.fail(key, expected);
    factors.push_back(value.get<double>());
  }
  return factors;
}

/// The keys that one kind of scaling has.
void parse_scaling(const ConfigReader& reader, const ModelConfig& config, const ConfigReader& outer, RopeConfig& rope) {
  const auto length = static_cast<double>(config.max_position_embeddings);
  rope.original_max_position_embeddings = config.max_position_embeddings;
  for (const ConfigReader* place : {&reader, &outer})  // the outer one wins, in Phi-3 also the default of its class
    if (rope.kind != Kind::kDynamic && !place->is_null_or_absent(kOriginal))
      rope.original_max_position_embeddings = place->integer(kOriginal, 1, kMaxPositions);
  if (config.family == Family::kPhi3 && rope.kind != Kind::kDynamic && outer.is_null_or_absent(kOriginal))
    rope.original_max_position_embeddings = kPhi3OriginalLength;
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  if (rope.kind == Kind::kYarn && rope.theta <= 1) reader.fail("rope_theta", "more than 1");
  if (rope.kind == Kind::kLongRope && rope.original_max_position_embeddings < 2) reader.fail(kOriginal, "at least 2");
  if (rope.kind == Kind::kDynamic && rope.rotated_dim(config.head_dim) < 4)
    outer.fail("head_dim", "at least 4 elements that rotate");
  const bool may_omit_factor = rope.kind == Kind::kYarn || rope.kind == Kind::kLongRope;
  rope.factor = may_omit_factor && reader.is_null_or_absent("factor") ? length / original
                                                                      : reader.number("factor", kMinFactor, kMaxFactor);
  if (rope.kind == Kind::kLlama3) {
    rope.low_freq_factor = reader.number("low_freq_factor", kMinFactor, kMaxFactor);
    rope.high_freq_factor = reader.number("high_freq_factor", kMinFactor, kMaxFactor);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      reader.fail("high_freq_factor", fmt::format("more than low_freq_factor {}", rope.low_freq_factor));
  }
  if (may_omit_factor) rope.attention_factor = optional_number(reader, "attention_factor", 0, kMaxFactor);
  if (rope.kind == Kind::kYarn) {
    rope.beta_fast = optional_number(reader, "beta_fast", kMinFactor, kMaxFactor).value_or(rope.beta_fast);
    rope.beta_slow = optional_number(reader, "beta_slow", kMinFactor, kMaxFactor).value_or(rope.beta_slow);
    rope.mscale = optional_number(reader, "mscale", 0, kMaxFactor);
    rope.mscale_all_dim = optional_number(reader, "mscale_all_dim", 0, kMaxFactor);
    rope.truncates_ramp = reader.boolean_or("truncate", true);
  }
  if (rope.kind == Kind::kLongRope) {
    const int64_t num_pairs = rope.rotated_dim(config.head_dim) / 2;
    rope.short_factor = parse_factors(reader, "short_factor", num_pairs);
    rope.long_factor = parse_factors(reader, "long_factor", num_pairs);
  }
}

/// One set of numbers. fallback_theta: for an object without rope_theta.
RopeConfig parse_set(const ConfigReader& reader, const ConfigReader& outer, const FamilyTraits& traits,
                     const ModelConfig& config, double fallback_theta) {
  RopeConfig rope;
  rope.theta =
      reader.is_null_or_absent("rope_theta") ? fallback_theta : reader.number("rope_theta", kMinTheta, kMaxTheta);
  rope.is_interleaved = traits.is_interleaved;
  rope.partial_rotary_factor = traits.partial_rotary_factor;
  const char* partial = "partial_rotary_factor";
  const ConfigReader& place = reader.is_null_or_absent(partial) ? outer : reader;
  if (!place.is_null_or_absent(partial)) {
    rope.partial_rotary_factor = place.number(partial, 0, 1);
    const int64_t rotated = rope.rotated_dim(config.head_dim);
    if (!traits.may_rotate_part && rope.partial_rotary_factor != 1)
      place.fail(partial, fmt::format("1, as {} rotates whole heads", traits.model_type));
    if (rotated < 2 || rotated % 2 != 0)
      place.fail(partial, fmt::format("a share of head_dim {} that is an even number", config.head_dim));
  }
  outer.is_null_or_absent(partial);  // read even if the inner one decides
  rope.kind = parse_kind(reader, traits.family);
  // without a meaning for some kinds, or for any
  for (const char* key : {"factor", kOriginal, "finetuned"}) reader.has(key);
  if (rope.kind != Kind::kDefault) parse_scaling(reader, config, outer, rope);
  return rope;
}

void refuse_unread(const ConfigReader& reader) {
  for (const std::string& key : reader.unread())
    reader.fail(key.c_str(), "no such key for this rope_type, as it would change the model");
}

/// rope_parameters of layers with and without a window, which rotate differently.
void parse_two_sets(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config) {
  json full = json::object(), sliding = json::object();
  const char* key = "rope_parameters";
  if (!reader.is_null_or_absent(key)) {
    const json& value = reader.object().at(key);
    for (const auto& [name, set] : {std::pair{kFullAttention, &full}, std::pair{kSlidingAttention, &sliding}}) {
      if (!value.is_object() || (value.contains(name) && !value.at(name).is_object() && !value.at(name).is_null()))
        reader.fail(key, fmt::format("an object with {} and {}", kFullAttention, kSlidingAttention));
      if (value.contains(name) && value.at(name).is_object()) *set = value.at(name);
    }
    for (const auto& [name, set] : value.items())
      if (name != kFullAttention && name != kSlidingAttention)
        reader.fail(key, fmt::format("an object with {} and {} only", kFullAttention, kSlidingAttention));
  }
  if (!reader.is_null_or_absent("rope_scaling")) {
    const json& scaling = reader.object().at("rope_scaling");
    if (!scaling.is_object()) reader.fail("rope_scaling", "an object or null");
    full.update(scaling);
    if (reader.is_null_or_absent(key) && scaling.contains("type") && !scaling.contains("rope_type")) {
      full["rope_type"] = "default";
      log_info_once(fmt::format(
          "{}: rope_scaling: its kind is given as `type`, which transformers 5 does not read in this family: positions "
          "are not scaled; write rope_type to scale them",
          reader.where()));
    }
  }
  // as transformers 5 has it, rope_theta outside serves the first set that has none
  std::optional<double> outer_theta = optional_number(reader, "rope_theta", kMinTheta, kMaxTheta);
  const ConfigReader full_reader(full, fmt::format("{}: {}", reader.where(), kFullAttention));
  const ConfigReader sliding_reader(sliding, fmt::format("{}: {}", reader.where(), kSlidingAttention));
  const bool takes_outer = !full.contains("rope_theta");
  config.rope =
      parse_set(full_reader, reader, traits, config, takes_outer ? outer_theta.value_or(traits.rope_theta) : 1.0);
  if (takes_outer) outer_theta.reset();
  double sliding_theta = traits.sliding_rope_theta;
  if (traits.family == Family::kGemma3) {
    sliding_theta = optional_number(reader, "rope_local_base_freq", kMinTheta, kMaxTheta).value_or(sliding_theta);
  } else {
    sliding_theta = outer_theta.value_or(sliding_theta);
  }
  config.sliding_rope = parse_set(sliding_reader, reader, traits, config, sliding_theta);
  // transformers 5 looks for this key outside of the two sets
  for (RopeConfig* rope : {&config.rope, &*config.sliding_rope})
    rope->truncates_ramp = reader.boolean_or("truncate", true);
  refuse_unread(full_reader);
  refuse_unread(sliding_reader);
}

json render_set(const RopeConfig& rope, const ModelConfig& config) {
  const auto* name =
      std::find_if(std::begin(kKinds), std::end(kKinds), [&](const auto& k) { return k.first == rope.kind; });
  json object = {{"rope_theta", rope.theta}, {"rope_type", name->second}};
  if (rope.partial_rotary_factor != 1) object["partial_rotary_factor"] = rope.partial_rotary_factor;
  if (rope.kind == Kind::kDefault) return object;
  // files of LongRoPE leave out a factor that is the ratio of the lengths
  const double ratio =
      static_cast<double>(config.max_position_embeddings) / static_cast<double>(rope.original_max_position_embeddings);
  if (rope.kind != Kind::kLongRope || rope.factor != ratio) object["factor"] = rope.factor;
  if (rope.kind == Kind::kLinear || rope.kind == Kind::kDynamic) return object;
  object[kOriginal] = rope.original_max_position_embeddings;
  if (rope.kind == Kind::kLlama3) {
    object["low_freq_factor"] = rope.low_freq_factor;
    object["high_freq_factor"] = rope.high_freq_factor;
    return object;
  }
  if (rope.attention_factor) object["attention_factor"] = *rope.attention_factor;
  if (rope.kind == Kind::kLongRope) {
    object["short_factor"] = rope.short_factor;
    object["long_factor"] = rope.long_factor;
    return object;
  }
  object["beta_fast"] = rope.beta_fast;
  object["beta_slow"] = rope.beta_slow;
  if (rope.mscale) object["mscale"] = *rope.mscale;
  if (rope.mscale_all_dim) object["mscale_all_dim"] = *rope.mscale_all_dim;
  if (!rope.truncates_ramp) object["truncate"] = false;
  return object;
}

}  // namespace

void parse_rope(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config) {
  if (traits.sliding_rope_theta > 0) return parse_two_sets(reader, traits, config);
  // transformers prefers rope_scaling (version 4) to rope_parameters (version 5); null and {} count as absent
  json object = json::object();
  const char* source = "rope_parameters";
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (reader.is_null_or_absent(key)) continue;
    const json& value = reader.object().at(key);
    if (!value.is_object()) reader.fail(key, "an object or null");
    if (value.empty()) continue;
    object = value;
    source = key;
  }
  for (const auto& [key, value] : object.items())
    if (value.is_object()) reader.fail(source, "one set of numbers for all layers");
  // the default of its class, which {} replaces
  if (object.empty() && traits.family == Family::kGptOss && reader.is_null_or_absent("rope_parameters"))
    object = {{"rope_type", "yarn"}, {"factor", 32.0}, {kOriginal, 4096}, {"truncate", false}};
  const ConfigReader rope_reader(object, fmt::format("{}: {}", reader.where(), source));
  const double outer_theta = reader.number_or("rope_theta", kMinTheta, kMaxTheta, traits.rope_theta);
  config.rope = parse_set(rope_reader, reader, traits, config, outer_theta);
  refuse_unread(rope_reader);
}

void render_rope(const ModelConfig& config, const FamilyTraits& traits, json& object) {
  json full = render_set(config.rope, config);
  // transformers 4 reads the keys outside of rope_parameters and would otherwise silently use its defaults
  object["rope_theta"] = config.rope.theta;
  const bool is_scaled = config.rope.kind != Kind::kDefault;
  if (traits.may_rotate_part) object["partial_rotary_factor"] = config.rope.partial_rotary_factor;
  if (is_scaled) object["rope_scaling"] = full;
  if (is_scaled && traits.family == Family::kPhi3) {
    object[kOriginal] = config.rope.original_max_position_embeddings;
    json& scaling = object["rope_scaling"];  // transformers 4 takes `type` and the two lists, and nothing else
    scaling["type"] = scaling["rope_type"];
    for (const char* key : {"rope_type", "rope_theta", "partial_rotary_factor", kOriginal}) scaling.erase(key);
  }
  if (!config.sliding_rope) {
    object["rope_parameters"] = std::move(full);
    return;
  }
  if (is_scaled) object["rope_scaling"].erase("rope_theta");
  if (!config.rope.truncates_ramp) object["truncate"] = false;
  if (traits.family == Family::kGemma3) object["rope_local_base_freq"] = config.sliding_rope->theta;
  object["rope_parameters"] = {{kFullAttention, std::move(full)},
                               {kSlidingAttention, render_set(*config.sliding_rope, config)}};
}

}  // namespace plumb
