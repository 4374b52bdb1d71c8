#include "apps/train/stage.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>

#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/stage_model.hpp"
#include "apps/preference/pairs.hpp"
#include "apps/preference/win_rate.hpp"
#include "apps/run/control.hpp"
#include "apps/run/output_directory.hpp"
#include "apps/run/progress.hpp"
#include "apps/run/resume.hpp"
#include "apps/train/checkpoints.hpp"
#include "apps/train/stage_data.hpp"
#include "apps/train/startup_checks.hpp"
#include "apps/train/step_log.hpp"
#include "apps/train/step_loop.hpp"
#include "io/report/report.hpp"
#include "io/run/lock.hpp"
#include "io/run/notes.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/check.hpp"
#include "lib/base/fault.hpp"
#include "lib/base/log.hpp"
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

/// Products of many threads are sums in another order.
void warn_of_other_threads(const Communicator& comm, const RunStart& start, int threads) {
  if (comm.rank() != 0 || !start.saved) return;
  const int before = start.saved->threads_per_rank;
  if (before != threads)
    log_warning("{} threads per rank, {} before: losses may differ in their last digits", threads, before);
}

/// Says what the run will take, refuses what does not fit, and describes the run in run.json. Collective.
void plan_run(const TrainOptions& o, const Communicator& comm, const ModelConfig& config, const HfModel& source,
              const std::optional<AdapterStart>& adapter, const StageRows& train_rows, const RunLength& length,
              const RunStart& start, int threads) {
  const bool checks_products = o.startup_checks && o.model.dtype == "bfloat16";
  const PlanInput plan_input{
      .config = config,
      .num_ranks = comm.size(),
      .ranks_per_node = comm.node_size(0),
      .num_threads = threads,
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
    write_run_json(o, start.inputs, comm, start.num_steps_done(), length.num_steps, threads, plan);
  });
}

/// Start-up checks and all steps that are left. `at_start`, local, is called between the two. Collective.
void train(const TrainOptions& o, const Communicator& comm, TrainableModel& model, const StageRows& train_rows,
           const StageRows* eval_rows, const RunLength& length, const RunStart& start, RunControl& control,
           const std::function<void()>& at_start) {
  const std::unique_ptr<Objective> objective = make_objective(o, model.config());
  if (o.startup_checks) run_startup_checks(comm, o, model, *objective, train_rows);
  at_start();
  std::optional<StepLog> log;
  fault_point("load", start.num_steps_done(), comm.rank());
  if (start.checkpoint) restore_model(comm, *start.checkpoint, model);
  comm.run_on_rank0([&] {
    if (start.saved) log.emplace(o.output_dir, start.num_steps_done(), start.saved->log);
    if (!start.saved) log.emplace(o.output_dir);
  });
  StepLoop({o, comm, model, *objective, train_rows, eval_rows, length, start, control, log ? &*log : nullptr}).run();
}

/// All parameters of the model, which is then in output_dir/model. Collective.
void train_whole(const TrainOptions& o, const Communicator& comm, const HfModel& source, const ModelConfig& config,
                 const StageRows& train_rows, const StageRows* eval_rows, const RunLength& length,
                 const RunStart& start, RunControl& control) {
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
                   const RunLength& length, const RunStart& start, RunControl& control) {
  const std::unique_ptr<AdaptedModel> model =
      load_adapted_model(comm, config, source, adapter, engine_options(o), static_cast<uint64_t>(o.seed));
  model->set_dropout(0);  // which no two computations of a start-up check would have alike
  train(o, comm, *model, train_rows, eval_rows, length, start, control,
        [&] { model->set_dropout(adapter.adapter.dropout); });
  export_adapter(comm, model->unit(), model->parameter_shard(), o.output_dir + "/adapter", adapter.config);
  if (o.exports_merged) export_merged(comm, o, config);
}

}  // namespace

void train_stage(const Communicator& comm, const TrainOptions& given, bool is_watched) {
  const double stage_start = seconds_now();
  TrainOptions o = given;
  const int threads = set_up_process(comm, o.model.threads);
  warm_up_libraries();
  stop_on_signals();
  const Watchdog watchdog(comm, is_watched ? 0 : o.watchdog_seconds);
  std::optional<RunLock> lock;
  comm.run_on_rank0([&] { lock.emplace(o.output_dir); });
  fault_point("init", 0, comm.rank());
  RunStart start = claim_run(comm, o);
  if (start.is_done) {
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
  fault_point("prepare", 0, comm.rank());
  StageRows train_rows = open_rows(comm, train_options, train_options.data.data, config);
  std::optional<StageRows> eval_rows;
  if (!o.eval_data.empty()) eval_rows.emplace(open_rows(comm, o, o.eval_data, config));
  RunLength length{};
  comm.run_agreed([&] { length = run_length(o, train_rows.dataset->num_rows(), comm.size()); });

  if (start.inputs.empty()) start.inputs = describe_inputs(comm, o);
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
  fault_point("stage-exported", length.num_steps, comm.rank());
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

}  // namespace plumb
