#include "apps/train/wrong_numbers.hpp"

#include <bit>
#include <limits>

#include "lib/base/fault.hpp"

namespace plumb {

namespace {

constexpr double kSpike = 1e4;  // as if the reference model found the chosen text much likelier

void add_to_chosen(std::span<MicroBatch> batches, double wrong) {
  for (MicroBatch& batch : batches)
    for (size_t chosen = 0; chosen < batch.reference_logps.size(); chosen += 2)
      batch.reference_logps[chosen].shared += wrong;
}

void flip_bit(std::span<float> parameters) {
  float& parameter = parameters[parameters.size() / 3];
  parameter = std::bit_cast<float>(std::bit_cast<uint32_t>(parameter) ^ (1U << 20));
}

}  // namespace

void inject_wrong_numbers(std::string_view point, int64_t step, std::span<MicroBatch> batches, TrainableModel& model) {
  if (is_fault_due(point, step, "nan")) add_to_chosen(batches, std::numeric_limits<double>::quiet_NaN());
  if (is_fault_due(point, step, "spike")) add_to_chosen(batches, kSpike);
  if (is_fault_due(point, step, "flip")) flip_bit(model.trained_shards().front().parameters);
}

}  // namespace plumb
