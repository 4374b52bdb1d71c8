#include "apps/rollout/round_layout.hpp"

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxRowsPerRound = int64_t{1} << 32;

}  // namespace

RowRange RoundLayout::rows_of(int64_t window, int64_t micro_batch) const {
  const int64_t first = window * rows_per_step(), end = first + rows_per_step();
  const int64_t begin = std::min(end, first + micro_batch * rows_per_micro_batch);
  return {begin, std::min(end, begin + rows_per_micro_batch)};
}

RoundLayout make_round_layout(const RoundSize& size, int64_t num_iterations, int64_t num_generations) {
  const int64_t rows_per_step = size.rows_per_micro_batch * size.micro_batches_per_step;
  if (rows_per_step > kMaxRowsPerRound / size.windows_per_round)
    throw_error<UsageError>("a round of {} completions in each of {} windows is too large", rows_per_step,
                            size.windows_per_round);
  const int64_t rows = rows_per_step * size.windows_per_round;
  if (rows % num_generations != 0)
    throw_error<UsageError>(
        "--num_generations {}: expected a divisor of the {} completions of a round ({} per micro-batch x {} "
        "micro-batches of all ranks x {} steps), which consists of whole groups",
        num_generations, rows, size.rows_per_micro_batch, size.micro_batches_per_step, size.windows_per_round);
  return {size.rows_per_micro_batch, size.micro_batches_per_step,
          size.windows_per_round,    num_iterations,
          num_generations,           rows};
}

RoundLayout recorded_round_layout(const RoundSize& size, int64_t num_iterations, int64_t num_generations,
                                  int64_t rows_per_round) {
  if (rows_per_round % num_generations != 0)
    throw_error<UsageError>("--num_generations {}: expected a divisor of the {} completions of a recorded round",
                            num_generations, rows_per_round);
  if (rows_per_round % size.windows_per_round != 0)
    throw_error<UsageError>(
        "--steps_per_generation: expected equal parts of the {} completions of a recorded round, "
        "got {} parts",
        rows_per_round, size.windows_per_round);
  const int64_t rows_per_step = rows_per_round / size.windows_per_round;
  if (rows_per_step > size.rows_per_micro_batch * size.micro_batches_per_step)
    throw_error<UsageError>(
        "--rollouts: its rounds have {} completions for a step, but a step holds {} ({} per micro-batch x {} "
        "micro-batches of all ranks); raise --per_device_train_batch_size, --gradient_accumulation_steps or "
        "--steps_per_generation",
        rows_per_step, size.rows_per_micro_batch * size.micro_batches_per_step, size.rows_per_micro_batch,
        size.micro_batches_per_step);
  return {size.rows_per_micro_batch, size.micro_batches_per_step,
          size.windows_per_round,    num_iterations,
          num_generations,           rows_per_round};
}

std::vector<int64_t> PromptOrder::prompts_of(int64_t round) const {
  check(round >= 1 && rounds_per_epoch() > 0, "a round has prompts");
  const int64_t epoch = (round - 1) / rounds_per_epoch(), first = (round - 1) % rounds_per_epoch() * prompts_per_round;
  std::vector<int64_t> prompts;
  for (int64_t i = first; i < first + prompts_per_round; ++i)
    prompts.push_back(is_shuffled ? static_cast<int64_t>(random_permutation(seed, static_cast<uint64_t>(epoch),
                                                                            static_cast<uint64_t>(i),
                                                                            static_cast<uint64_t>(num_prompts)))
                                  : i);
  return prompts;
}

}  // namespace plumb
