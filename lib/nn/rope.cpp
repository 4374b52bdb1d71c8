#include "lib/nn/rope.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace plumb {

std::vector<float> rope_frequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  std::vector<float> frequencies;
  for (int64_t i = 0; i < config.head_dim; i += 2) {
    const double exponent = static_cast<double>(static_cast<float>(i) / static_cast<float>(config.head_dim));
    const float power = static_cast<float>(std::pow(rope.theta, exponent));
    double frequency = static_cast<double>(1.0f / power);
    if (rope.kind == RopeConfig::Kind::kLinear) frequency /= rope.factor;
    if (rope.kind == RopeConfig::Kind::kLlama3) {
      // long wavelengths are scaled by `factor`, short ones unchanged, those between interpolated
      const double wavelength = 2.0 * std::numbers::pi / frequency;
      const double turns = static_cast<double>(rope.original_max_position_embeddings) / wavelength;
      const double blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      if (turns < rope.low_freq_factor) {
        frequency /= rope.factor;
      } else if (turns <= rope.high_freq_factor) {
        frequency = (1.0 - blend) * frequency / rope.factor + blend * frequency;
      }
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

void RopeTable::cover(int64_t num_positions) {
  const int64_t covered = cos_.defined() ? cos_.size(0) : 0;
  if (num_positions <= covered) return;
  const int64_t total = std::max(num_positions, 2 * covered), num_pairs = std::ssize(frequencies_);
  const at::Tensor cos = at::empty({total, num_pairs}, at::TensorOptions().dtype(at::kFloat));
  const at::Tensor sin = at::empty_like(cos);
  float *next_cos = cos.data_ptr<float>(), *next_sin = sin.data_ptr<float>();
  for (int64_t position = 0; position < total; ++position)
    for (const float frequency : frequencies_) {
      const float angle = static_cast<float>(position) * frequency;
      *next_cos++ = std::cos(angle);
      *next_sin++ = std::sin(angle);
    }
  cos_ = cos;
  sin_ = sin;
}

at::Tensor rope_positions(const Documents& documents) {
  const at::Tensor positions = at::empty({documents.begin.back()}, at::TensorOptions().dtype(at::kInt));
  auto* next = positions.data_ptr<int32_t>();
  for (size_t i = 0; i + 1 < documents.begin.size(); ++i) {
    const int64_t first = documents.prefix_length.empty() ? 0 : documents.prefix_length[i];
    const int64_t length = documents.begin[i + 1] - documents.begin[i];
    for (int64_t position = first; position < first + length; ++position) *next++ = static_cast<int32_t>(position);
  }
  return positions;
}

int64_t last_position(const Documents& documents) {
  int64_t last = 0;
  for (size_t i = 0; i + 1 < documents.begin.size(); ++i) {
    const int64_t first = documents.prefix_length.empty() ? 0 : documents.prefix_length[i];
    last = std::max(last, first + documents.begin[i + 1] - documents.begin[i] - 1);
  }
  return last;
}

}  // namespace plumb
