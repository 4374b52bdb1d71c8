// plumb sft: supervised fine-tuning, from rows and a model directory to a fine-tuned model directory.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <optional>

#include "apps/commands.hpp"
#include "apps/model_setup.hpp"
#include "apps/options.hpp"
#include "apps/output_directory.hpp"
#include "apps/progress.hpp"
#include "apps/trainer.hpp"
#include "io/batch_stream.hpp"
#include "io/prepare.hpp"
#include "io/process_memory.hpp"
#include "io/run_log.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "partition/memory_plan.hpp"

namespace plumb {

namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// How many steps a run has, from rows and options.
struct RunLength {
  int64_t steps_per_epoch;
  int64_t num_steps;
};

RunLength run_length(const TrainOptions& o, int64_t num_rows, int num_ranks) {
  const int64_t rows_per_step = num_ranks * o.gradient_accumulation_steps * o.per_device_train_batch_size;
  const int64_t steps_per_epoch =
      o.dataloader_drop_last ? num_rows / rows_per_step : (num_rows + rows_per_step - 1) / rows_per_step;
  if (steps_per_epoch == 0)
    throw_error<UsageError>(
        "{} rows do not fill one step of {} rows ({} ranks x {} accumulation steps x {} rows) and "
        "--dataloader_drop_last drops the rest",
        num_rows, rows_per_step, num_ranks, o.gradient_accumulation_steps, o.per_device_train_batch_size);
  const int64_t num_steps =
      o.max_steps > 0 ? o.max_steps
                      : static_cast<int64_t>(std::ceil(o.num_train_epochs * static_cast<double>(steps_per_epoch)));
  return {steps_per_epoch, num_steps};
}

TrainerOptions trainer_options(const TrainOptions& o, int64_t num_steps) {
  const auto warmup = static_cast<int64_t>(
      o.warmup_steps < 1 ? std::ceil(o.warmup_steps * static_cast<double>(num_steps)) : o.warmup_steps);
  return {{o.adam_beta1, o.adam_beta2, o.adam_epsilon, o.weight_decay},
          {parse_schedule(o.lr_scheduler_type), o.learning_rate, warmup, num_steps},
          o.max_grad_norm,
          o.loss_type == "dft" ? TokenLoss::kDft : TokenLoss::kNll};
}

PrepareOptions prepare_options(const TrainOptions& o, const std::vector<std::string>& files, int64_t vocab_size) {
  return {.files = files,
          .columns = parse_columns_option(o.data.columns),
          .template_name = o.data.chat_template,
          .sft = sft_options(o.data),
          .model_directory = o.model.model,
          .vocab_size = vocab_size};
}

int64_t sum_of_memory(const Communicator& comm) {
  int64_t bytes = proportional_set_bytes();
  comm.sum({&bytes, 1});
  return bytes;
}

/// Loss, perplexity and accuracy on the evaluation rows, in metrics.jsonl and on the screen. Collective.
void evaluate_and_log(const TrainOptions& o, const Communicator& comm, ShardedModel& model, const Dataset& rows,
                      int64_t step, double epoch, MetricsLog* log, Progress& progress) {
  BatchStream stream(rows, {.seed = 0, .shuffle = false, .rows_per_micro_batch = o.per_device_eval_batch_size},
                     comm.rank(), comm.size());
  const EvaluationStats stats = evaluate_model(model, comm, stream.steps_per_epoch(), [&] { return stream.next(); });
  if (comm.rank() != 0) return;
  progress.finish_line();
  log_info("evaluation: loss {:.4f}  perplexity {:.3f}  token accuracy {:.4f}  exact match {:.4f}", stats.loss,
           std::exp(stats.loss), stats.mean_token_accuracy, stats.exact_match);
  log->write({{"step", step},
              {"epoch", epoch},
              {"eval_loss", stats.loss},
              {"eval_perplexity", std::exp(stats.loss)},
              {"eval_mean_token_accuracy", stats.mean_token_accuracy},
              {"eval_exact_match", stats.exact_match},
              {"eval_entropy", stats.entropy},
              {"eval_num_tokens", stats.num_tokens}});
}

/// What is logged is the mean over the steps since the last line, as TRL does.
class StepMeans {
 public:
  void add(const StepStats& stats, double seconds) {
    ++num_steps_;
    loss_ += stats.loss;
    entropy_ += stats.entropy;
    accuracy_ += stats.mean_token_accuracy;
    num_tokens_ += stats.num_tokens;
    seconds_ += seconds;
  }
  nlohmann::ordered_json take(const StepStats& last, int64_t step, double epoch, int64_t total_tokens) {
    const auto n = static_cast<double>(num_steps_);
    nlohmann::ordered_json line = {{"step", step},
                                   {"epoch", epoch},
                                   {"loss", loss_ / n},
                                   {"grad_norm", last.grad_norm},
                                   {"learning_rate", last.learning_rate},
                                   {"num_tokens", total_tokens},
                                   {"entropy", entropy_ / n},
                                   {"mean_token_accuracy", accuracy_ / n},
                                   {"step_seconds", seconds_ / n},
                                   {"tokens_per_second", static_cast<double>(num_tokens_) / seconds_}};
    *this = {};
    return line;
  }

 private:
  int64_t num_steps_ = 0, num_tokens_ = 0;
  double loss_ = 0, entropy_ = 0, accuracy_ = 0, seconds_ = 0;
};

int train(const Communicator& comm, const TrainOptions& o) {
  const int threads = set_up_process(comm, o.model.threads);
  warm_up_libraries();
  comm.run_on_rank0([&] { claim_output_directory(o.output_dir, o.overwrite_output_dir); });
  std::optional<HfModel> source;
  comm.run_agreed([&] { source.emplace(o.model.model); });
  const std::string data_directory = o.output_dir + "/data";
  const auto open_rows = [&](const std::vector<std::string>& files) {
    return dataset_directory(
        data_directory, prepare_data(comm, prepare_options(o, files, source->config().vocab_size), data_directory));
  };
  const std::string train_directory = open_rows(o.data.data);
  const std::string eval_directory = o.eval_data.empty() ? "" : open_rows(o.eval_data);
  std::optional<Dataset> train_rows, eval_rows;
  RunLength length{};
  comm.run_agreed([&] {
    train_rows.emplace(train_directory, source->config().vocab_size);
    if (!eval_directory.empty()) eval_rows.emplace(eval_directory, source->config().vocab_size);
    length = run_length(o, train_rows->num_rows(), comm.size());
  });
  const Dataset& rows = *train_rows;

  const int64_t program_bytes = sum_of_memory(comm) / comm.size();
  const PlanInput plan_input{
      .config = source->config(),
      .num_ranks = comm.size(),
      .ranks_per_node = comm.node_size(0),
      .element_bytes = o.model.dtype == "bfloat16" ? 2 : 4,
      .accumulation_steps = o.gradient_accumulation_steps,
      .micro_batch_tokens = o.per_device_train_batch_size * rows.index().statistics.max_row_tokens,
      .has_gradient_checkpointing = o.gradient_checkpointing,
      .reduction = parse_reduction(o.reduction),
      .program_bytes = program_bytes};
  const MemoryPlan plan = plan_memory(plan_input);
  comm.run_on_rank0([&] {
    log_info("{}", render_plan(plan_input, plan));
    check_fits(plan_input, plan, available_memory_bytes());
    write_run_json(o, comm, length.num_steps, threads, plan);
  });

  ShardedModel model(source->config(), comm,
                     {parse_dtype(o.model.dtype), o.gradient_checkpointing, o.gradient_accumulation_steps,
                      parse_reduction(o.reduction)});
  load_weights(comm, model, *source);
  Trainer trainer(model, comm, trainer_options(o, length.num_steps));
  BatchStream stream(rows,
                     {.seed = static_cast<uint64_t>(o.seed),
                      .shuffle = o.shuffle,
                      .drop_last = o.dataloader_drop_last,
                      .rows_per_micro_batch = o.per_device_train_batch_size,
                      .accumulation_steps = o.gradient_accumulation_steps},
                     comm.rank(), comm.size());
  std::optional<MetricsLog> log;
  comm.run_on_rank0([&] { log.emplace(o.output_dir + "/metrics.jsonl"); });
  Progress progress;
  StepMeans means;
  int64_t total_tokens = 0, memory_bytes = 0;
  const int64_t eval_every = o.eval_steps > 0 ? o.eval_steps : length.steps_per_epoch;
  const double start = seconds_now();
  while (trainer.num_steps_done() < length.num_steps) {
    const double step_start = seconds_now();
    const StepStats stats = trainer.step(stream.next());
    const double step_end = seconds_now();
    const int64_t step = trainer.num_steps_done();
    const double epoch = static_cast<double>(step) / static_cast<double>(length.steps_per_epoch);
    const bool is_last = step == length.num_steps;
    const bool is_logged = step % o.logging_steps == 0 || step == 1 || is_last;
    total_tokens += stats.num_tokens;
    means.add(stats, step_end - step_start);
    if (is_logged) memory_bytes = sum_of_memory(comm);
    if (comm.rank() == 0) {
      if (is_logged) {
        nlohmann::ordered_json line = means.take(stats, step, epoch, total_tokens);
        line["memory_bytes"] = memory_bytes;
        log->write(line);
      }
      const double seconds = step_end - start;
      progress.show({step, length.num_steps, epoch, stats.loss, stats.grad_norm, stats.learning_rate,
                     static_cast<double>(stats.num_tokens) / (step_end - step_start),
                     seconds / static_cast<double>(step) * static_cast<double>(length.num_steps - step), memory_bytes},
                    is_logged);
    }
    if (eval_rows && (step % eval_every == 0 || is_last))
      evaluate_and_log(o, comm, model, *eval_rows, step, epoch, log ? &*log : nullptr, progress);
  }
  progress.finish_line();
  const std::string model_directory = o.output_dir + "/model";
  export_model(comm, model, model_directory, o.model.model, o.save_dtype);
  if (comm.rank() == 0)
    log_info("{} steps in {}; the model is in {}", length.num_steps, render_duration(seconds_now() - start),
             model_directory);
  return kExitDone;
}

}  // namespace

int run_sft(const std::vector<std::string>& arguments) {
  TrainOptions options;
  OptionsDescription description("options of plumb sft");
  declare(description, options);
  if (!parse_options("plumb sft --model DIR --data FILE... --output_dir DIR", description,
                     {"model", "data", "output_dir"}, arguments))
    return kExitDone;
  validate(options);
  return run_on_ranks([&](const Communicator& comm) { return train(comm, options); });
}

}  // namespace plumb
