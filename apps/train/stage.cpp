#include "apps/train/stage.hpp"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/models/plan_input.hpp"
#include "apps/models/stage_model.hpp"
#include "apps/models/trained_model.hpp"
#include "apps/preference/pairs.hpp"
#include "apps/preference/win_rate.hpp"
#include "apps/run/control.hpp"
#include "apps/run/output_directory.hpp"
#include "apps/run/progress.hpp"
#include "apps/run/resume.hpp"
#include "apps/train/policy_data.hpp"
#include "apps/train/policy_steps.hpp"
#include "apps/train/room_for_end.hpp"
#include "apps/train/stage_data.hpp"
#include "apps/train/stage_options.hpp"
#include "apps/train/startup_checks.hpp"
#include "apps/train/step_log.hpp"
#include "apps/train/step_loop.hpp"
#include "io/checkpoint/directory.hpp"
#include "io/report/report.hpp"
#include "io/run/lock.hpp"
#include "io/run/notes.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "lib/base/text_format.hpp"
#include "partition/memory_plan.hpp"
#include "partition/sharded_model.hpp"
#include "partition/watchdog.hpp"

namespace plumb {

namespace {

/// One run of a stage. All functions are collective; run() calls the others in order.
class StageRun {
 public:
  StageRun(const Communicator& comm, const TrainOptions& options, int threads)
      : comm_(comm), options_(options), threads_(threads), notes_(comm.rank() == 0) {}

  void run();

 private:
  void claim();
  void open_model();
  void open_rows();
  void open_rollouts();
  void plan();
  void compute_reference_logps();
  TrainedModel load_model() const;
  void check_model(const TrainedModel& model, Objective& objective) const;
  void restore(TrainableModel& model) const;
  void train_and_export(const TrainedModel& model, Objective& objective);
  int64_t bytes_to_export(const TrainedModel& model) const;
  bool take_steps(const TrainedModel& model, Objective& objective, RoomForEnd& room);
  std::unique_ptr<StepSource> make_source(const TrainedModel& model, Objective& objective) const;
  void export_model(const TrainedModel& model) const;
  void export_with_room(const TrainedModel& model, RoomForEnd& room, bool is_saved) const;
  void export_merged() const;
  void report();

  bool has_steps_left() const { return start_.num_steps_done() < length_.num_steps; }
  void log_mix() const;
  void log_longer_run() const;
  void write_notes() const;

  const double start_seconds_ = steady_seconds();
  const Communicator& comm_;
  TrainOptions options_;  // claim_run() may change gradient_accumulation_steps
  const int threads_;     // per rank
  StageNotes notes_;
  RunStart start_;
  std::optional<RunControl> control_;
  std::optional<HfModel> source_;  // the model that training starts from
  std::optional<AdapterStart> adapter_;
  ModelConfig config_;
  StageRows train_rows_;
  ExportedText text_;  // goes with the export: rank 0's
  std::optional<StageRows> eval_rows_;
  std::optional<WinRate> win_rate_;     // dpo
  SamplerOptions sampler_;              // of the training rows
  std::optional<PolicyData> rollouts_;  // grpo, rloo
  int64_t max_row_tokens_ = 0;
  RunLength length_{};
};

void StageRun::run() {
  claim();
  if (start_.is_done) {
    if (comm_.rank() == 0) log_info("{}: already complete, nothing to do", options_.output_dir);
    return;
  }
  control_.emplace(comm_, name_of(options_.stage), options_.output_dir, options_.max_seconds);
  open_model();
  makes_rollouts(options_.stage) ? open_rollouts() : open_rows();
  plan();
  compute_reference_logps();
  control_->stop_before_steps(comm_);
  {  // frees the model before the report loads one
    const TrainedModel model = load_model();
    const std::unique_ptr<Objective> objective = make_objective(options_, config_);
    check_model(model, *objective);
    train_and_export(model, *objective);
  }
  report();
}

/// Decides how the run starts in its output directory.
void StageRun::claim() {
  const Phase phase("init", 0);
  start_ = claim_run(comm_, options_);
}

/// Reads the configuration of the model, not its weights.
void StageRun::open_model() {
  const std::string ignored = options_without_adapter(options_.lora);
  if (comm_.rank() == 0 && !ignored.empty())
    log_warning("{}: ignored, because neither --lora_r nor --adapter is given: the whole model is trained", ignored);
  comm_.run_agreed([&] {
    source_.emplace(open_source(options_.model, options_.lora, head_of(options_.stage), options_.seed));
    if (options_.lora.is_used()) adapter_.emplace(find_adapter(options_.lora, source_->config(), source_->directory()));
  });
  config_ = source_->config();
  if (config_.head != HeadKind::kScore) return;
  comm_.run_agreed([&] { config_.pad_token_id = padding_id(model_at_start(options_).tokenizer()); });
  if (comm_.rank() == 0 && !source_->has_score())
    log_info("{} has no score.weight: the head is initialized from seed {}", options_.model.model, options_.seed);
}

void StageRun::open_rows() {
  DataOptions data = options_.data;
  if (options_.stage == Stage::kDpo) {
    const PairSetting setting = pair_setting(options_);
    data = choose_pairs(comm_, setting, notes_);
    win_rate_.emplace(comm_, setting, options_.eval_data);
    write_notes();
  }
  const Phase phase("prepare", 0);
  const RowsOptions rows = rows_options(options_);
  train_rows_ = plumb::open_rows(comm_, rows, data, config_.vocab_size);
  if (!options_.eval_data.empty()) {
    DataOptions eval_data = options_.data;
    eval_data.data = options_.eval_data;
    RowsOptions whole = rows;
    whole.keeps_items_apart = false;
    eval_rows_ = plumb::open_rows(comm_, whole, eval_data, config_.vocab_size);
  }
  if (config_.rope_depends_on_length()) {
    train_rows_.dataset->share_no_prompts();
    if (eval_rows_) eval_rows_->dataset->share_no_prompts();
  }
  comm_.run_on_rank0([&] {
    const TokenizerSource source = model_at_start(options_).tokenizer();
    const Tokenizer tokenizer = load_tokenizer(source);
    const auto chat_template = template_of_rows(train_rows_.dataset->index().statistics.templates);
    log_adapter_tokenizer(source);
    if (chat_template) log_turn_end(source, tokenizer, config_, *chat_template);
    text_ = exported_text(source, tokenizer, chat_template);
  });
  comm_.run_agreed([&] {
    sampler_ = sampler_options(options_, train_rows_);
    length_ = run_length(options_, rows_per_epoch(sampler_, train_rows_.dataset->num_rows()), comm_.size());
  });
  max_row_tokens_ = train_rows_.dataset->max_row_tokens();
  if (comm_.rank() == 0) log_mix();
  if (comm_.rank() == 0) log_longer_run();
}

/// As open_rows(), for a stage that trains on completions.
void StageRun::open_rollouts() {
  const Phase phase("prepare", 0);
  rollouts_ = open_policy_data(comm_, options_, config_);
  length_ = rollouts_->length;
  max_row_tokens_ = rollouts_->max_row_tokens;
  comm_.run_on_rank0([&] {
    const TokenizerSource source = model_at_start(options_).tokenizer();
    const Tokenizer tokenizer = load_tokenizer(source);
    log_adapter_tokenizer(source);
    if (rollouts_->template_name) log_turn_end(source, tokenizer, config_, *rollouts_->template_name);
    text_ = exported_text(source, tokenizer, rollouts_->template_name);
  });
  if (comm_.rank() == 0) log_longer_run();
}

/// Logs how many rows of each item of the data an epoch has.
void StageRun::log_mix() const {
  const int64_t num_rows = rows_per_epoch(sampler_, train_rows_.dataset->num_rows());
  for (size_t i = 0; i < sampler_.mix.size(); ++i) {
    const RowSource& source = sampler_.mix[i];
    const double percent = 100 * static_cast<double>(source.rows_per_epoch) / static_cast<double>(num_rows);
    log_info("data_weights: each epoch of {} rows has {} ({:.1f} %) of the {} of item {} of data", num_rows,
             source.rows_per_epoch, percent, source.num_rows, i + 1);
  }
}

/// Logs what a run that is longer than at its last start does with the learning rate.
void StageRun::log_longer_run() const {
  const int64_t before = start_.saved ? num_steps_of(start_.saved->inputs) : 0, done = start_.num_steps_done();
  if (before == 0 || before == length_.num_steps || !has_steps_left()) return;
  log_info(
      "the run of {} steps continues after step {} to step {}: the {} schedule is that of {} steps from here on, with "
      "a learning rate of {:.3g} at step {}, after {:.3g} at step {}",
      before, done, length_.num_steps, name_of(options_.lr_scheduler_type), length_.num_steps,
      schedule_of(options_, length_.num_steps).at(done), done + 1, schedule_of(options_, before).at(done - 1), done);
}

/// Logs the memory plan, throws if it does not fit, and writes run.json.
void StageRun::plan() {
  if (start_.inputs.empty()) start_.inputs = describe_inputs(comm_, options_);
  add_num_steps(start_.inputs, length_.num_steps);
  const PlannedModel model{config_, adapter_ ? std::optional(adapter_->adapter) : std::nullopt,
                           [&](const Parameter& p) { return nf4_format_of(*source_, p); }};
  const PlannedRanks ranks{comm_.size(), comm_.node_size(0), threads_, sum_of_memory(comm_) / comm_.size()};
  const PlanInput input = plan_input(options_, model, ranks, max_row_tokens_);
  const MemoryPlan plan = plan_memory(input);
  comm_.run_on_rank0([&] {
    log_info("{}", render_plan(input, plan));
    check_fits(input, plan, available_memory_bytes());
    write_run_json(comm_, options_.output_dir,
                   {.command = name_of(options_.stage),
                    .options = options_.texts,
                    .inputs = start_.inputs,
                    .num_steps_done = start_.num_steps_done(),
                    .num_steps = length_.num_steps,
                    .threads_per_rank = threads_,
                    .plan = plan});
  });
  // with another number of threads, matrix products sum in another order
  if (comm_.rank() == 0 && start_.saved && start_.saved->threads_per_rank != threads_)
    log_warning("{} threads per rank, {} before: losses may differ in their last digits", threads_,
                start_.saved->threads_per_rank);
}

void StageRun::compute_reference_logps() {
  if (options_.stage != Stage::kDpo || !has_steps_left()) return;
  const ModelSource reference = reference_model(options_.dpo.ref_model, model_at_start(options_));
  add_reference_logps(comm_, reference, train_rows_);
  if (eval_rows_) add_reference_logps(comm_, reference, *eval_rows_);
}

TrainedModel StageRun::load_model() const {
  TrainedModel model;
  if (adapter_) {
    model.adapted = load_adapted_model(comm_, config_, *source_, *adapter_, engine_options(options_, config_),
                                       static_cast<uint64_t>(options_.seed));
  } else {
    model.whole = std::make_unique<ShardedModel>(config_, comm_, engine_options(options_, config_));
    load_weights(comm_, *model.whole, *source_);
  }
  return model;
}

void StageRun::check_model(const TrainedModel& model, Objective& objective) const {
  if (!options_.startup_checks || !has_steps_left() || makes_rollouts(options_.stage)) return;
  if (model.adapted) model.adapted->set_dropout(0);  // its masks would differ between the two computations of a check
  run_startup_checks(comm_, startup_check_options(options_), model.trained(), objective, train_rows_);
  if (model.adapted) model.adapted->set_dropout(adapter_->adapter.dropout);
}

/// Loads the checkpoint that the run resumes from, if there is one.
void StageRun::restore(TrainableModel& model) const {
  const Phase phase("load", start_.num_steps_done());
  if (start_.checkpoint) restore_model(comm_, *start_.checkpoint, model);
}

/// Holds the disk space for the end of the run meanwhile.
void StageRun::train_and_export(const TrainedModel& model, Objective& objective) {
  RoomForEnd room(comm_, options_.output_dir, checkpoint_bytes(comm_, model.trained().trained_shards()),
                  bytes_to_export(model));
  const bool is_saved = take_steps(model, objective, room);
  export_with_room(model, room, is_saved);
}

/// Trains all remaining steps: those after the checkpoint, if there is one. Returns whether the last one is saved.
bool StageRun::take_steps(const TrainedModel& model, Objective& objective, RoomForEnd& room) {
  restore(model.trained());
  if (comm_.rank() == 0 && !has_steps_left())
    log_info("all {} steps are done: only the export is left", length_.num_steps);
  std::optional<StepLog> log;  // rank 0's
  comm_.run_on_rank0([&] {
    if (start_.saved) log.emplace(options_.output_dir, start_.num_steps_done(), start_.saved->log);
    if (!start_.saved) log.emplace(options_.output_dir);
  });
  const std::unique_ptr<StepSource> source = make_source(model, objective);
  const StepLoopOptions loop = step_loop_options(options_, length_.num_steps, *control_);
  const bool is_saved = StepLoop({loop, comm_, model.trained(), objective, *source, length_, start_, *control_, room,
                                  log ? &*log : nullptr})
                            .run();
  source->add_samples(notes_);
  return is_saved;
}

std::unique_ptr<StepSource> StageRun::make_source(const TrainedModel& model, Objective& objective) const {
  if (rollouts_)
    return std::make_unique<PolicySteps>(
        PolicySteps::Input{options_, comm_, model, dynamic_cast<GrpoObjective&>(objective), *rollouts_, *source_,
                           config_, adapter_ ? &*adapter_ : nullptr},
        start_.num_steps_done(), start_.saved ? start_.saved->state.source : nlohmann::ordered_json());
  return std::make_unique<RowSteps>(
      RowSteps::Input{model.trained(), comm_, objective, sampler_, train_rows_, eval_rows_ ? &*eval_rows_ : nullptr,
                      options_.per_device_eval_batch_size},
      start_.num_steps_done());
}

/// The bytes that export_model() writes; on other ranks than 0 without the files of the tokenizer.
int64_t StageRun::bytes_to_export(const TrainedModel& model) const {
  int64_t bytes = 0, num_directories = 0;
  if (model.whole || options_.exports_merged) {
    bytes += exported_bytes(unit_layouts(config_), options_.save_dtype);
    ++num_directories;
  }
  if (model.adapted) {
    bytes += exported_adapter_bytes(model.adapted->unit().unit(), config_);
    ++num_directories;
  }
  return comm_.rank() == 0 ? bytes + num_directories * text_files_bytes(text_.tokenizer) : bytes;
}

/// Exports into the room that was held for it. is_saved: whether a checkpoint has the last step.
void StageRun::export_with_room(const TrainedModel& model, RoomForEnd& room, bool is_saved) const {
  room.give_back();
  try {
    export_model(model);
  } catch (const AgreedError& error) {
    if (!is_saved) throw;
    throw AgreedError(fmt::format("{}; the checkpoint of step {} has everything: once that is mended, the same command "
                                  "exports the model from it",
                                  error.what(), length_.num_steps),
                      error.code());
  }
}

/// Writes output_dir/model, or output_dir/adapter.
void StageRun::export_model(const TrainedModel& model) const {
  const std::string directory = options_.output_dir + (adapter_ ? "/adapter" : "/model");
  if (model.whole) plumb::export_model(comm_, *model.whole, directory, text_, options_.save_dtype);
  if (model.adapted)
    export_adapter(comm_, model.adapted->unit(), model.adapted->parameter_shard(), directory, adapter_->config, config_,
                   text_);
  if (model.adapted && options_.exports_merged) export_merged();
}

/// The base with its adapter as one model in output_dir/model, for the next stage of a pipeline.
void StageRun::export_merged() const {
  std::optional<HfModel> merged;
  comm_.run_agreed([&] {
    const ModelSource trained = trained_model(options_.output_dir, options_.model, options_.lora);
    merged.emplace(trained.model, trained.options(config_.head));
  });
  export_as_read(comm_, *merged, config_, options_.output_dir + "/model", text_, options_.save_dtype);
}

void StageRun::report() {
  const Phase phase("stage-exported", length_.num_steps);
  if (win_rate_) {
    ModelSource trained = trained_model(options_.output_dir, options_.model, options_.lora);
    trained.tokenizer_behavior = options_.data.tokenizer_behavior;
    win_rate_->add_to(notes_, trained);
  }
  write_notes();
  comm_.run_on_rank0([&] {
    write_report(options_.output_dir);
    record_end_of_run(options_.output_dir);
    if (options_.save_steps == 0) remove_all_checkpoints(checkpoint_directory(options_.output_dir));
  });
  control_->end();
  if (comm_.rank() == 0)
    log_info("{} steps in {}; the {} is in {}", length_.num_steps, render_duration(steady_seconds() - start_seconds_),
             adapter_ ? "adapter" : "model", options_.output_dir + (adapter_ ? "/adapter" : "/model"));
}

void StageRun::write_notes() const {
  comm_.run_on_rank0([&] { notes_.write(options_.output_dir + "/notes.json"); });
}

}  // namespace

void train_stage(const Communicator& comm, const TrainOptions& options, bool is_watched) {
  StageRun stage(comm, options, set_up_process(comm, options.model.threads));
  warm_up_libraries();
  stop_on_signals();
  const Watchdog watchdog(comm, is_watched ? 0 : options.watchdog_seconds);
  std::optional<RunLock> lock;  // rank 0's
  comm.run_on_rank0([&] { lock.emplace(options.output_dir); });
  stage.run();
}

}  // namespace plumb
