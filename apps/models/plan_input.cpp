#include "apps/models/plan_input.hpp"

#include <algorithm>
#include <filesystem>

#include "lib/nn/matmul.hpp"

namespace plumb {

namespace {

/// The start-up checks in bfloat16 leave this in memory, because their shapes do not occur in steps: with LibTorch's
/// products oneDNN caches code for each, nearly twice as much with an adapter on two ranks; with plumb's, malloc keeps
/// freed pieces. Measured.
constexpr int64_t kCheckBytes = int64_t{8} << 20;
constexpr int64_t kCheckMatmulBytes = int64_t{10} << 20;
constexpr int64_t kCheckMatmulBytesWithAdapter = int64_t{20} << 20;

int64_t check_bytes(const TrainOptions& o) {
  if (!o.startup_checks || o.model.dtype != Precision::kBfloat16) return 0;
  if (has_pair_products()) return kCheckBytes;
  return o.lora.is_used() ? kCheckMatmulBytesWithAdapter : kCheckMatmulBytes;
}

/// Memory that oneDNN caches for the bfloat16 matmuls of experts, which have many numbers of rows (padded_rows() in
/// lib/nn/experts.cpp: eight up to 128, then four in each octave). Measured.
int64_t expert_matmul_bytes(const TrainOptions& o, const ModelConfig& config, int64_t micro_batch_tokens) {
  constexpr int64_t kBytes = int64_t{4} << 20;
  if (config.mixture.num_experts == 0 || o.model.dtype != Precision::kBfloat16 || has_pair_products()) return 0;
  int64_t num_sizes = 8;
  for (int64_t rows = 128; rows < micro_batch_tokens; rows *= 2) num_sizes += 4;
  return num_sizes * kBytes;
}

/// None for a stage that trains on rows of data.
std::optional<PlannedRollouts> planned_rollouts(const TrainOptions& o, int64_t row_tokens) {
  if (!makes_rollouts(o.stage)) return std::nullopt;
  PlannedRollouts rollouts{.row_tokens = row_tokens,
                           .has_reference = o.rl.beta != 0,
                           .has_frozen_reference = !o.lora.adapter.empty() || !o.lora.lora_modules_to_save.empty()};
  if (!o.rl.rollouts.empty()) return rollouts;
  rollouts.decoded_rows =
      o.per_device_train_batch_size * o.rl.steps_per_generation.value_or(o.gradient_accumulation_steps);
  for (const std::string& directory : o.rl.reward_model) {
    std::error_code error;
    for (std::filesystem::directory_iterator file(directory, error), end; !error && file != end; file.increment(error))
      if (file->path().extension() == ".safetensors") {
        const auto size = static_cast<int64_t>(file->file_size(error));
        rollouts.reward_model_bytes += error ? 0 : size;
      }
  }
  return rollouts;
}

}  // namespace

PlanInput plan_input(const TrainOptions& o, const PlannedModel& model, const PlannedRanks& ranks,
                     int64_t max_row_tokens) {
  return {.config = model.config,
          .num_ranks = ranks.num_ranks,
          .ranks_per_node = ranks.ranks_per_node,
          .num_threads = ranks.num_threads,
          .element_bytes = element_bytes(o.model.dtype),
          .accumulation_steps = o.gradient_accumulation_steps,
          .micro_batch_tokens = o.per_device_train_batch_size * max_row_tokens,
          .has_gradient_checkpointing = o.gradient_checkpointing,
          .reduction = o.reduction,
          .has_8bit_moments = o.optim == Optimizer::kAdamw8bit,
          .has_async_save = o.async_save && o.save_steps > 0,
          .adapter = model.adapter,
          .nf4_format = model.nf4_format,
          .rollouts = planned_rollouts(o, std::min(max_row_tokens, model.config.max_position_embeddings)),
          .program_bytes = ranks.program_bytes + check_bytes(o) +
                           expert_matmul_bytes(o, model.config, o.per_device_train_batch_size * max_row_tokens)};
}

int64_t max_row_tokens(const TrainOptions& o) { return o.data.max_length * (o.stage == Stage::kSft ? 1 : 2); }

int64_t max_row_tokens(const TrainOptions& o, const ModelConfig& config) {
  if (makes_rollouts(o.stage))
    return o.data.max_length == 0
               ? config.max_position_embeddings
               : std::min(o.data.max_length + o.rl.max_completion_length, config.max_position_embeddings);
  return max_row_tokens(o);
}

}  // namespace plumb
