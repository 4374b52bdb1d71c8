// plumb export: a model, or a base with its adapter in it, as one GGUF file with its tokenizer and chat template, as
// llama.cpp loads it. Each rank converts its share of the tensors, a few rows at a time.
#include <fmt/format.h>

#include <optional>
#include <string>
#include <vector>

#include "apps/commands/commands.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/options/options.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/gguf/gguf_export.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

struct ExportOptions {
  std::string model, adapter, gguf;
  GgufNumber gguf_type = GgufNumber::kBf16;
  std::string eos_token;
  TokenizerBehavior tokenizer_behavior = TokenizerBehavior::kTransformers5;
  bool overwrite = false;
};

void check_output(const ExportOptions& o) {
  if (is_directory(o.gguf)) throw_error<UsageError>("--gguf {}: expected a file to write, got a directory", o.gguf);
  if (is_regular_file(o.gguf) && !o.overwrite)
    throw_error<UsageError>("--gguf {}: expected a new file, got one that exists; give --overwrite to replace it",
                            o.gguf);
}

GgufPlan plan_export(const HfModel& model, const ExportOptions& o) {
  const TokenizerSource source = {o.model, o.adapter, o.eos_token, o.tokenizer_behavior};
  const std::vector<int32_t> ends = end_ids(source, model.config(), load_tokenizer(source), /*template_name=*/"");
  return plan_gguf_export(model, source, ends, o.gguf_type);
}

int export_gguf(const Communicator& comm, const ExportOptions& o) {
  std::optional<HfModel> model;
  GgufPlan plan;
  comm.run_agreed([&] {
    check_output(o);
    model.emplace(o.model, HfModelOptions{.adapter = o.adapter});
    plan = plan_export(*model, o);
  });
  std::optional<AtomicFile> exported;  // on rank 0
  const std::string temporary = comm.from_rank0([&] {
    log_adapter_tokenizer({o.model, o.adapter});
    for (const std::string& note : plan.notes) log_warning("{}: {}", o.gguf, note);
    exported.emplace(o.gguf);
    create_gguf_file(plan, exported->temporary_path());
    return exported->temporary_path();
  });
  comm.run_agreed([&] {
    for (int64_t i = comm.rank(); i < std::ssize(plan.tensors); i += comm.size())
      write_gguf_tensor(plan, temporary, *model, i);
    File::open_for_writing(temporary).sync();
  });
  comm.run_on_rank0([&] {
    exported->publish();
    log_info("{}: {} tensors, {:.1f} MB", o.gguf, plan.tensors.size(),
             static_cast<double>(plan.layout.size_bytes) / 1e6);
  });
  return kExitDone;
}

std::vector<BoundOption> bind_options(ExportOptions& o) {
  return {declare("model", OptionGroup::kModel, o.model, "directory of the model or base model", {.value_name = "DIR"}),
          merged_adapter_option(o.adapter),
          eos_token_option(o.eos_token),
          tokenizer_behavior_option(o.tokenizer_behavior),
          declare("gguf", OptionGroup::kOutput, o.gguf, "GGUF file to write, for llama.cpp", {.value_name = "FILE"}),
          declare("gguf_type", OptionGroup::kOutput, o.gguf_type,
                  "number format of the matrices; norms and biases are float32"),
          declare("overwrite", OptionGroup::kOutput, o.overwrite, "replace a file that is already there")};
}

int run_export(const ExportOptions& o) {
  return run_on_ranks([&](const Communicator& comm) { return export_gguf(comm, o); });
}

}  // namespace

Command export_command() {
  return make_command<ExportOptions>({.name = "export",
                                      .summary = "a model as a GGUF file, which llama.cpp loads",
                                      .usage = "--model DIR [--adapter DIR] --gguf FILE [--gguf_type f32|bf16|q8_0]",
                                      .example = "plumb export --model run/model --gguf model.gguf --gguf_type q8_0",
                                      .required = {"model", "gguf"}},
                                     bind_options, run_export);
}

}  // namespace plumb
