#include "lib/nn/rope.hpp"

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
      // long wavelengths are stretched by `factor`, short ones kept, those between blended
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

static void append_positions(RopeTable& table, std::span<const float> frequencies, int64_t first, int64_t count) {
  for (int64_t position = first; position < first + count; ++position) {
    for (float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      table.cos.push_back(std::cos(angle));
      table.sin.push_back(std::sin(angle));
    }
  }
}

RopeTable rope_table(std::span<const float> frequencies, std::span<const int64_t> document_begin,
                     std::span<const int64_t> prefix_length) {
  RopeTable table;
  for (size_t i = 0; i + 1 < document_begin.size(); ++i)
    append_positions(table, frequencies, prefix_length.empty() ? 0 : prefix_length[i],
                     document_begin[i + 1] - document_begin[i]);
  return table;
}

RopeTable rope_table_from(std::span<const float> frequencies, int64_t first_position, int64_t num_positions) {
  RopeTable table;
  append_positions(table, frequencies, first_position, num_positions);
  return table;
}

}  // namespace plumb
