#include "apps/train_stage.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>

#include "apps/adapted_setup.hpp"
#include "apps/checkpoints.hpp"
#include "apps/commands.hpp"
#include "apps/model_setup.hpp"
#include "apps/output_directory.hpp"
#include "apps/preference_pairs.hpp"
#include "apps/progress.hpp"
#include "apps/resume.hpp"
#include "apps/run_control.hpp"
#include "apps/skipped_steps.hpp"
#include "apps/stage_data.hpp"
#include "apps/stage_notes.hpp"
#include "apps/startup_checks.hpp"
#include "apps/step_log.hpp"
#include "apps/trainer.hpp"
#include "apps/win_rate.hpp"
#include "io/process_memory.hpp"
#include "io/report.hpp"
#include "io/run_lock.hpp"
#include "lib/base/check.hpp"
#include "lib/base/fault.hpp"
#include "lib/base/log.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/reward.hpp"
#include "lib/objective/sft.hpp"
#include "partition/memory_plan.hpp"
#include "partition/sharded_model.hpp"
#include "partition/watchdog.hpp"

namespace plumb {

namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What oneDNN keeps of the bfloat16 products of start-up checks, whose shapes a run does not have. Measured; with an
/// adapter, on two ranks, nearly twice as much.
constexpr int64_t kCheckedProductsBytes = int64_t{10} << 20;
constexpr int64_t kCheckedProductsBytesWithAdapter = int64_t{20} << 20;

EngineOptions engine_options(const TrainOptions& o) {
  return {parse_dtype(o.model.dtype), o.gradient_checkpointing, o.gradient_accumulation_steps,
          parse_reduction(o.reduction), has_8bit_moments(o)};
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

/// Where the stage begins, and what it is made from.
struct StageStart {
  RunStart run;
  Inputs inputs;
};

/// Products of many threads are sums in another order.
void warn_of_other_threads(const Communicator& comm, const StageStart& start, int threads) {
  if (comm.rank() != 0 || !start.run.checkpoint) return;
  const int before = SavedRun(*start.run.checkpoint).threads_per_rank;
  if (before != threads)
    log_warning("{} threads per rank, {} before: losses may differ in their last digits", threads, before);
}

TrainerOptions trainer_options(const TrainOptions& o, int64_t num_steps, const RunControl& control) {
  const auto warmup = static_cast<int64_t>(
      o.warmup_steps < 1 ? std::ceil(o.warmup_steps * static_cast<double>(num_steps)) : o.warmup_steps);
  return {{o.adam_beta1, o.adam_beta2, o.adam_epsilon, o.weight_decay},
          {parse_schedule(o.lr_scheduler_type), o.learning_rate, warmup, num_steps},
          o.max_grad_norm,
          [&control] { return control.wants_stop(); },
          o.skip_nonfinite_steps ? kMaxSkippedOnEnd : 0};
}

int64_t sum_of_memory(const Communicator& comm) {
  int64_t bytes = proportional_set_bytes();
  comm.sum({&bytes, 1});
  return bytes;
}

/// The model that training starts from, with the stage's head on it.
HfModel open_source(const TrainOptions& o) {
  const bool has_score = o.stage == Stage::kReward;
  HfModel source(o.model.model, {.head = has_score ? HeadKind::kScore : HeadKind::kLanguageModel,
                                 .seed = static_cast<uint64_t>(o.seed),
                                 .quantizes = o.lora.quantize == "nf4"});
  if (source.is_quantized() && !o.lora.is_used())
    throw_error<UsageError>("{}: a quantised model is frozen; give --lora_r to train an adapter beside it",
                            o.model.model);
  return source;
}

std::unique_ptr<Objective> make_objective(const TrainOptions& o, const ModelConfig& config) {
  switch (o.stage) {
    case Stage::kSft:
      return std::make_unique<SftObjective>(config.rms_norm_eps,
                                            o.sft.loss_type == "dft" ? TokenLoss::kDft : TokenLoss::kNll);
    case Stage::kReward: {
      const double centre = o.reward.center_rewards_coefficient;
      return std::make_unique<RewardObjective>(config.rms_norm_eps, centre > 0 ? std::optional(centre) : std::nullopt,
                                               config.pad_token_id);
    }
    case Stage::kDpo:
      break;
  }
  return std::make_unique<DpoObjective>(dpo_options(o.dpo), config.rms_norm_eps);
}

/// Loss and the stage's metrics on the evaluation rows, in metrics.jsonl and on the screen. Collective.
void evaluate_and_log(const TrainOptions& o, const Communicator& comm, TrainableModel& model, Objective& objective,
                      const StageRows& rows, int64_t step, double epoch, StepLog* log, Progress& progress) {
  const EvaluationStats stats = evaluate_rows(model, comm, objective, rows, o.per_device_eval_batch_size);
  if (!log) return;
  progress.finish_line();
  log_info("evaluation: {}", render_metrics(stats.metrics));
  log->write(stats, step, epoch);
}

/// The loop over steps, behind those of `start`. Collective.
void run_steps(const TrainOptions& o, const Communicator& comm, TrainableModel& model, Objective& objective,
               const StageRows& train_rows, const StageRows* eval_rows, const RunLength& length,
               const StageStart& start, RunControl& control, StepLog* log) {
  const int64_t num_steps_before = start.run.num_steps_done();
  Trainer trainer(model, comm, objective, trainer_options(o, length.num_steps, control), num_steps_before);
  Checkpoints checkpoints(o, start.inputs, comm, model, control);
  const auto stream = train_rows.stream({.seed = static_cast<uint64_t>(o.seed),
                                         .shuffle = o.shuffle,
                                         .drop_last = o.dataloader_drop_last,
                                         .rows_per_micro_batch = o.per_device_train_batch_size,
                                         .accumulation_steps = o.gradient_accumulation_steps},
                                        comm, num_steps_before);
  Progress progress;
  int64_t total_tokens = start.run.checkpoint ? SavedRun(*start.run.checkpoint).total_tokens : 0;
  int64_t memory_bytes = 0;
  const int64_t eval_every = o.eval_steps > 0 ? o.eval_steps : length.steps_per_epoch;
  const double loop_start = seconds_now();
  while (trainer.num_steps_done() < length.num_steps) {
    const double step_start = seconds_now();
    pass_fault_point("data", trainer.num_steps_done() + 1, comm.rank());
    std::vector<MicroBatch> batches = stream->next();
    spoil_on_purpose(batches, trainer.num_steps_done() + 1, comm.rank());
    const StepStats stats = trainer.step(batches);
    const double step_seconds = seconds_now() - step_start, seconds = seconds_now() - loop_start;
    const int64_t step = trainer.num_steps_done();
    const double epoch = static_cast<double>(step) / static_cast<double>(length.steps_per_epoch);
    const bool is_last = step == length.num_steps;
    const bool is_logged = step % o.logging_steps == 0 || step == 1 || is_last;
    total_tokens += stats.num_tokens;
    if (is_logged) memory_bytes = sum_of_memory(comm);
    const ProgressState state{
        step,
        length.num_steps,
        epoch,
        stats.loss(),
        stats.grad_norm,
        stats.learning_rate,
        static_cast<double>(stats.num_tokens) / step_seconds,
        seconds / static_cast<double>(step - num_steps_before) * static_cast<double>(length.num_steps - step),
        memory_bytes};
    control.add_step(state, stats.reports, step_seconds);
    if (stats.is_skipped) log_skipped_step(comm, batches, step, epoch, log);
    if (log) {
      if (!stats.is_skipped) log->add(stats, step_seconds);
      if (is_logged && !stats.is_skipped) log->write(stats, step, epoch, total_tokens, memory_bytes);
      progress.show(state, is_logged);
    }
    if (eval_rows && (step % eval_every == 0 || is_last))
      evaluate_and_log(o, comm, model, objective, *eval_rows, step, epoch, log, progress);
    checkpoints.poll();
    const bool is_to_stop = stats.reports.is_stop_wanted && !is_last;
    if (checkpoints.is_due(step) || is_to_stop) {
      progress.finish_line();
      checkpoints.save(step, total_tokens, log);
    }
    pass_fault_point("step", step, comm.rank());
    if (is_to_stop) control.stop(step, checkpoints.finish() == step);
  }
  checkpoints.finish();
  progress.finish_line();
}

/// Says what the run will take, refuses what does not fit, and describes the run in run.json. Collective.
void plan_run(const TrainOptions& o, const Communicator& comm, const ModelConfig& config, const HfModel& source,
              const std::optional<AdapterStart>& adapter, const StageRows& train_rows, const RunLength& length,
              const StageStart& start, int threads) {
  const bool checks_products = o.startup_checks && o.model.dtype == "bfloat16";
  const PlanInput plan_input{
      .config = config,
      .num_ranks = comm.size(),
      .ranks_per_node = comm.node_size(0),
      .element_bytes = o.model.dtype == "bfloat16" ? 2 : 4,
      .accumulation_steps = o.gradient_accumulation_steps,
      .micro_batch_tokens = o.per_device_train_batch_size * train_rows.dataset->max_row_tokens(),
      .has_gradient_checkpointing = o.gradient_checkpointing,
      .reduction = parse_reduction(o.reduction),
      .has_8bit_moments = has_8bit_moments(o),
      .has_async_save = o.async_save && o.save_steps > 0,
      .adapter = adapter ? std::optional(adapter->adapter) : std::nullopt,
      .nf4_format = [&](const Parameter& p) { return nf4_format_of(source, p); },
      .program_bytes = sum_of_memory(comm) / comm.size() +
                       (checks_products ? (adapter ? kCheckedProductsBytesWithAdapter : kCheckedProductsBytes) : 0)};
  const MemoryPlan plan = plan_memory(plan_input);
  comm.run_on_rank0([&] {
    log_info("{}", render_plan(plan_input, plan));
    check_fits(plan_input, plan, available_memory_bytes());
    write_run_json(o, start.inputs, comm, start.run.num_steps_done(), length.num_steps, threads, plan);
  });
}

/// Start-up checks and all steps that are left. `at_start`, local, is called between the two. Collective.
void train(const TrainOptions& o, const Communicator& comm, TrainableModel& model, const StageRows& train_rows,
           const StageRows* eval_rows, const RunLength& length, const StageStart& start, RunControl& control,
           const std::function<void()>& at_start) {
  const std::unique_ptr<Objective> objective = make_objective(o, model.config());
  if (o.startup_checks) run_startup_checks(comm, o, model, *objective, train_rows);
  at_start();
  std::optional<StepLog> log;
  const std::optional<Checkpoint>& checkpoint = start.run.checkpoint;
  pass_fault_point("load", start.run.num_steps_done(), comm.rank());
  if (checkpoint) restore_model(comm, *checkpoint, model);
  comm.run_on_rank0([&] {
    if (checkpoint) log.emplace(o.output_dir, checkpoint->manifest.step, SavedRun(*checkpoint).log);
    if (!checkpoint) log.emplace(o.output_dir);
  });
  run_steps(o, comm, model, *objective, train_rows, eval_rows, length, start, control, log ? &*log : nullptr);
}

/// All parameters of the model, which is then in output_dir/model. Collective.
void train_whole(const TrainOptions& o, const Communicator& comm, const HfModel& source, const ModelConfig& config,
                 const StageRows& train_rows, const StageRows* eval_rows, const RunLength& length,
                 const StageStart& start, RunControl& control) {
  ShardedModel model(config, comm, engine_options(o));
  load_weights(comm, model, source);
  train(o, comm, model, train_rows, eval_rows, length, start, control, [] {});
  export_model(comm, model, o.output_dir + "/model", o.model.model, o.save_dtype);
}

/// The trained model as one, for a pipeline's next stage, in output_dir/model. Collective.
void export_merged(const Communicator& comm, const TrainOptions& o, const ModelConfig& config) {
  std::optional<HfModel> merged;
  comm.run_agreed([&] {
    const ModelSource trained = trained_model(o);
    merged.emplace(trained.model, trained.options(config.head));
  });
  export_as_read(comm, *merged, config, o.output_dir + "/model", o.save_dtype);
}

/// An adapter beside the model, which is then in output_dir/adapter. Collective.
void train_adapter(const TrainOptions& o, const Communicator& comm, const HfModel& source, const ModelConfig& config,
                   const AdapterStart& adapter, const StageRows& train_rows, const StageRows* eval_rows,
                   const RunLength& length, const StageStart& start, RunControl& control) {
  const std::unique_ptr<AdaptedModel> model =
      load_adapted_model(comm, config, source, adapter, engine_options(o), static_cast<uint64_t>(o.seed));
  model->set_dropout(0);  // which no two computations of a start-up check would have alike
  train(o, comm, *model, train_rows, eval_rows, length, start, control,
        [&] { model->set_dropout(adapter.adapter.dropout); });
  export_adapter(comm, model->unit(), model->parameter_shard(), o.output_dir + "/adapter", adapter.config);
  if (o.exports_merged) export_merged(comm, o, config);
}

}  // namespace

void train_stage(const Communicator& comm, const TrainOptions& o, bool is_watched) {
  const double stage_start = seconds_now();
  const int threads = set_up_process(comm, o.model.threads);
  warm_up_libraries();
  stop_on_signals();
  const Watchdog watchdog(comm, is_watched ? 0 : o.watchdog_seconds);
  std::optional<RunLock> lock;
  comm.run_on_rank0([&] { lock.emplace(o.output_dir); });
  pass_fault_point("init", 0, comm.rank());
  StageStart start{claim_run(comm, o), {}};
  if (start.run.is_done) {
    if (comm.rank() == 0) log_info("{} was carried through already", o.output_dir);
    return;
  }
  RunControl control(comm, o);
  if (const std::string ignored = options_without_adapter(o.lora); comm.rank() == 0 && !ignored.empty())
    log_warning("{}: ignored, as there is neither --lora_r nor --adapter: the whole model is trained", ignored);
  std::optional<HfModel> source;
  std::optional<AdapterStart> adapter;
  comm.run_agreed([&] {
    source.emplace(open_source(o));
    if (o.lora.is_used()) adapter.emplace(find_adapter(o.lora, *source));
  });
  ModelConfig config = source->config();
  if (config.head == HeadKind::kScore) {
    comm.run_agreed([&] { config.pad_token_id = padding_id(o.model.model); });
    if (comm.rank() == 0 && !source->has_score())
      log_info("{} holds no score.weight: the head starts from seed {}", o.model.model, o.seed);
  }

  StageNotes notes(comm.rank() == 0);
  const auto write_notes = [&] { comm.run_on_rank0([&] { notes.write(o.output_dir + "/notes.json"); }); };
  TrainOptions train_options = o;  // with the pairs that DPO trains on
  std::optional<WinRate> win_rate;
  if (o.stage == Stage::kDpo) {
    train_options.data = choose_pairs(comm, o, notes);
    win_rate.emplace(comm, o);
    write_notes();
  }
  pass_fault_point("prepare", 0, comm.rank());
  StageRows train_rows = open_rows(comm, train_options, train_options.data.data, config);
  std::optional<StageRows> eval_rows;
  if (!o.eval_data.empty()) eval_rows.emplace(open_rows(comm, o, o.eval_data, config));
  RunLength length{};
  comm.run_agreed([&] { length = run_length(o, train_rows.dataset->num_rows(), comm.size()); });

  start.inputs = describe_inputs(comm, o);
  plan_run(o, comm, config, *source, adapter, train_rows, length, start, threads);
  warn_of_other_threads(comm, start, threads);
  if (o.stage == Stage::kDpo) {
    const ModelSource reference = o.dpo.ref_model.empty() ? model_at_start(o) : ModelSource{o.dpo.ref_model};
    add_reference_logps(comm, reference, train_rows);
    if (eval_rows) add_reference_logps(comm, reference, *eval_rows);
  }
  control.stop_before_steps(comm);
  if (adapter) {
    train_adapter(o, comm, *source, config, *adapter, train_rows, eval_rows ? &*eval_rows : nullptr, length, start,
                  control);
  } else {
    train_whole(o, comm, *source, config, train_rows, eval_rows ? &*eval_rows : nullptr, length, start, control);
  }
  pass_fault_point("stage-exported", length.num_steps, comm.rank());
  if (win_rate) win_rate->add_to(notes);
  write_notes();
  comm.run_on_rank0([&] {
    write_report(o.output_dir);
    record_end_of_run(o.output_dir);
  });
  control.end();
  if (comm.rank() == 0)
    log_info("{} steps in {}; the {} is in {}", length.num_steps, render_duration(seconds_now() - stage_start),
             adapter ? "adapter" : "model", o.output_dir + (adapter ? "/adapter" : "/model"));
}

int run_train_command(Stage stage, const std::vector<std::string>& arguments) {
  TrainOptions options = default_options(stage);
  const std::string command = fmt::format("plumb {}", name_of(stage));
  OptionsDescription description("options of " + command);
  declare(description, options);
  if (!parse_options(command + " --model DIR --data FILE... --output_dir DIR", description,
                     {"model", "data", "output_dir"}, arguments, &options.texts))
    return kExitDone;
  validate(options);
  stop_on_signals();  // also of one that comes while MPI starts
  return run_on_ranks([&](const Communicator& comm) {
    train_stage(comm, options);
    return static_cast<int>(kExitDone);
  });
}

}  // namespace plumb
