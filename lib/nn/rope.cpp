#include "lib/nn/rope.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

namespace plumb {

namespace {

using Kind = RopeConfig::Kind;

/// Llama 3: long wavelengths are scaled by `factor`, short ones unchanged, those between interpolated.
double llama3_frequency(double frequency, const RopeConfig& rope) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double turns = static_cast<double>(rope.original_max_position_embeddings) / wavelength;
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  if (turns > rope.high_freq_factor) return frequency;
  const double blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - blend) * frequency / rope.factor + blend * frequency;
}

/// YaRN: pairs below the ramp keep their frequency, those above are interpolated.
class YarnRamp {
 public:
  YarnRamp(const RopeConfig& rope, int64_t rotated_dim) {
    const auto dim = static_cast<double>(rotated_dim);
    const auto original = static_cast<double>(rope.original_max_position_embeddings);
    const auto edge = [&](double turns) {  // the pair that makes so many turns within the original length
      return dim * std::log(original / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(rope.theta));
    };
    low_ = edge(rope.beta_fast);
    double high = edge(rope.beta_slow);
    if (rope.truncates_ramp) low_ = std::floor(low_), high = std::ceil(high);
    low_ = std::max(low_, 0.0);
    high = std::min(high, dim - 1);
    width_ = high == low_ ? 0.001 : high - low_;
  }
  double at(int64_t pair) const { return std::clamp((static_cast<double>(pair) - low_) / width_, 0.0, 1.0); }

 private:
  double low_, width_;
};

}  // namespace

std::vector<float> rope_frequencies(const RopeConfig& rope, const ModelConfig& config, int64_t length) {
  const int64_t dim = rope.rotated_dim(config.head_dim);
  double theta = rope.theta;
  if (rope.kind == Kind::kDynamic && length > config.max_position_embeddings) {
    const double ratio = static_cast<double>(length) / static_cast<double>(config.max_position_embeddings);
    theta *= std::pow(rope.factor * ratio - (rope.factor - 1), static_cast<double>(dim) / static_cast<double>(dim - 2));
  }
  const std::optional<YarnRamp> ramp =
      rope.kind == Kind::kYarn ? std::optional<YarnRamp>(std::in_place, rope, dim) : std::nullopt;
  const bool is_long = length > rope.original_max_position_embeddings;
  std::vector<float> frequencies;
  for (int64_t pair = 0; 2 * pair < dim; ++pair) {
    const double exponent = static_cast<double>(static_cast<float>(2 * pair) / static_cast<float>(dim));
    const float power = static_cast<float>(std::pow(theta, exponent));
    double frequency = static_cast<double>(1.0f / power);
    if (rope.kind == Kind::kLinear) frequency /= rope.factor;
    if (rope.kind == Kind::kLlama3) frequency = llama3_frequency(frequency, rope);
    if (ramp) frequency = frequency * (1.0 - ramp->at(pair)) + frequency / rope.factor * ramp->at(pair);
    if (rope.kind == Kind::kLongRope) frequency /= (is_long ? rope.long_factor : rope.short_factor)[pair];
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

float rope_amplitude(const RopeConfig& rope) {
  if (rope.attention_factor) return static_cast<float>(*rope.attention_factor);
  if (rope.factor <= 1) return 1.0f;
  if (rope.kind == Kind::kYarn) {
    const auto scale = [&](double mscale) { return 0.1 * mscale * std::log(rope.factor) + 1.0; };
    const double over = rope.mscale.value_or(0), under = rope.mscale_all_dim.value_or(0);
    return static_cast<float>(over > 0 && under > 0 ? scale(over) / scale(under) : scale(1.0));
  }
  if (rope.kind == Kind::kLongRope)
    return static_cast<float>(
        std::sqrt(1.0 + std::log(rope.factor) / std::log(static_cast<double>(rope.original_max_position_embeddings))));
  return 1.0f;
}

RopeTable::RopeTable(const RopeConfig& rope, const ModelConfig& config) : rope_(rope), config_(config) {}

RopeTable::Table RopeTable::make(int64_t length, int64_t num_positions) const {
  const std::vector<float> frequencies = rope_frequencies(rope_, config_, length);
  const float amplitude = rope_amplitude(rope_);
  const at::Tensor cos = at::empty({num_positions, std::ssize(frequencies)}, at::TensorOptions().dtype(at::kFloat));
  const at::Tensor sin = at::empty_like(cos);
  float *next_cos = cos.data_ptr<float>(), *next_sin = sin.data_ptr<float>();
  for (int64_t position = 0; position < num_positions; ++position)
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      *next_cos++ = std::cos(angle) * amplitude;
      *next_sin++ = std::sin(angle) * amplitude;
    }
  return {cos, sin};
}

Rotation RopeTable::rotation(const std::vector<Positions>& texts) {
  int64_t num_rows = 0;
  for (const Positions& text : texts) num_rows += text.end - text.first;
  Rotation rotation;
  rotation.head_dim = config_.head_dim;
  rotation.is_interleaved = rope_.is_interleaved;
  rotation.positions = at::empty({num_rows}, at::TensorOptions().dtype(at::kInt));
  // texts that rotate alike share a table: all, or those on one side of the original length, or those of one length
  const int64_t original =
      rope_.kind == Kind::kDynamic ? config_.max_position_embeddings : rope_.original_max_position_embeddings;
  const auto key_of = [&](const Positions& text) -> int64_t {
    if (!rope_.depends_on_length() || text.length <= original) return 0;
    return rope_.kind == Kind::kDynamic ? text.length : 1;
  };
  struct Part {
    int64_t length = 0, end = 0, first_row = 0;
  };
  std::map<int64_t, Part> parts;
  for (const Positions& text : texts) {
    Part& part = parts[key_of(text)];
    part.length = std::max(part.length, text.length);
    part.end = std::max(part.end, text.end);
  }
  if (rope_.depends_on_length()) {
    std::vector<at::Tensor> cos, sin;
    int64_t rows = 0;
    for (auto& [key, part] : parts) {
      const Table table = make(part.length, part.end);
      cos.push_back(table.cos);
      sin.push_back(table.sin);
      part.first_row = rows;
      rows += part.end;
    }
    if (!cos.empty()) rotation.cos = at::cat(cos), rotation.sin = at::cat(sin);
  } else {
    const int64_t covered = table_.cos.defined() ? table_.cos.size(0) : 0, needed = parts.empty() ? 0 : parts[0].end;
    if (needed > covered || covered == 0) table_ = make(0, std::max(needed, 2 * covered));
    rotation.cos = table_.cos;
    rotation.sin = table_.sin;
  }
  auto* next = rotation.positions.data_ptr<int32_t>();
  for (const Positions& text : texts) {
    const int64_t first_row = parts[key_of(text)].first_row;
    for (int64_t position = text.first; position < text.end; ++position)
      *next++ = static_cast<int32_t>(first_row + position);
  }
  return rotation;
}

Rotation RopeTable::of_documents(const Documents& documents) {
  std::vector<Positions> texts;
  for (size_t i = 0; i + 1 < documents.begin.size(); ++i) {
    const int64_t first = documents.prefix_length.empty() ? 0 : documents.prefix_length[i];
    const int64_t end = first + documents.begin[i + 1] - documents.begin[i];
    texts.push_back({first, end, end});
  }
  return rotation(texts);
}

Rotation RopeTable::of_last_tokens(std::span<const int64_t> lengths) {
  std::vector<Positions> texts;
  for (const int64_t length : lengths) texts.push_back({length - 1, length, length});
  return rotation(texts);
}

ModelRope::ModelRope(const ModelConfig& config) : full_(config.rope, config) {
  if (config.sliding_rope) sliding_.emplace(*config.sliding_rope, config);
}

ModelRope::Rotations ModelRope::of_documents(const Documents& documents) {
  return {full_.of_documents(documents), sliding_ ? sliding_->of_documents(documents) : Rotation()};
}

ModelRope::Rotations ModelRope::of_last_tokens(std::span<const int64_t> lengths) {
  return {full_.of_last_tokens(lengths), sliding_ ? sliding_->of_last_tokens(lengths) : Rotation()};
}

}  // namespace plumb
