#include "apps/models/model_setup.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <malloc.h>
#include <omp.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "apps/models/threads.hpp"
#include "io/file/atomic_directory.hpp"
#include "io/huggingface/export_files.hpp"
#include "io/huggingface/hf_export.hpp"
#include "io/huggingface/peft_export.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;  // read at a time

}  // namespace

int use_threads(int chosen) {
  // oneDNN splits a matmul among the threads it expects, and leaves parts uncomputed if fewer run
  omp_set_dynamic(0);
  int given = 1;
#pragma omp parallel num_threads(chosen)
#pragma omp single
  given = omp_get_num_threads();
  if (given < chosen)
    log_warning("OpenMP provides {} of {} threads (OMP_THREAD_LIMIT?): continuing with {}", given, chosen, given);
  at::set_num_threads(given);
  return given;
}

int set_up_process(const Communicator& comm, int threads) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the largest value that glibc accepts: smaller tensors reuse the heap
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_ARENA_MAX, 2);
  return use_threads(choose_threads(comm, threads));
}

void release_freed_memory() { malloc_trim(0); }

void warm_up_libraries() {
  const at::NoGradGuard no_gradients;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = at::ones({64, 64}, at::TensorOptions().dtype(dtype));
    const at::Tensor heads = at::mm(x, x).view({1, 4, 64, 16});
    at::_scaled_dot_product_flash_attention_for_cpu(heads, heads, heads, 0.0, true);
  }
}

at::ScalarType scalar_type(Precision precision) {
  return precision == Precision::kBfloat16 ? at::kBFloat16 : at::kFloat;
}

int32_t padding_id(const TokenizerSource& source) {
  const Tokenizer tokenizer = load_tokenizer(source);
  return tokenizer.pad_id().value_or(tokenizer.eos_id().value_or(-1));
}

void load_weights(const Communicator& comm, ShardedModel& model, const HfModel& source) {
  comm.run_agreed([&] {
    model.load([&](int unit, ElementRange range, std::span<float> out) {
      source.read_unit_range(model.units()[unit].unit(), range.begin, range.end, out);
    });
  });
}

void export_by_all(const Communicator& comm, std::span<const ExportFile> files, const std::string& directory,
                   ExistingDirectory existing, const std::function<void(const std::string& temporary)>& write,
                   const std::function<void(const std::string& temporary)>& finish) {
  std::optional<AtomicDirectory> exported;  // on rank 0
  const std::string temporary = comm.from_rank0([&] {
    exported.emplace(directory, existing);
    create_export_files(files, exported->temporary_path());
    return exported->temporary_path();
  });
  comm.run_agreed([&] {
    write(temporary);
    sync_export_files(files, temporary);
  });
  comm.run_on_rank0([&] {
    finish(temporary);
    exported->publish();
  });
}

static int64_t sum_of_sizes(std::span<const ExportFile> files) {
  int64_t bytes = 0;
  for (const ExportFile& file : files) bytes += file.size_bytes;
  return bytes;
}

int64_t exported_bytes(const std::vector<UnitLayout>& model, Precision precision) {
  return sum_of_sizes(plan_export(model, file_dtype(precision)).files);
}

int64_t exported_adapter_bytes(const UnitLayout& unit, const ModelConfig& base) {
  return sum_of_sizes(plan_adapter_export(unit, base.shares_head()).files);
}

void export_model(const Communicator& comm, ShardedModel& model, const std::string& directory, const ExportedText& text,
                  Precision precision) {
  const ExportPlan plan = plan_export(unit_layouts(model.config()), file_dtype(precision));
  const auto write = [&](const std::string& temporary) {
    for (size_t unit = 0; unit < model.units().size(); ++unit) {
      const ElementRange range = model.units()[unit].shard(comm.rank());
      write_unit_range(plan, temporary, unit, range.begin, range.end, model.parameter_shard(static_cast<int>(unit)));
    }
  };
  export_by_all(comm, plan.files, directory, ExistingDirectory::kReplace, write,
                [&](const std::string& temporary) { finish_export(plan, temporary, model.config(), text); });
}

void export_as_read(const Communicator& comm, const HfModel& model, ModelConfig config, const std::string& directory,
                    const ExportedText& text, Precision precision) {
  config.is_quantized = false;
  const ExportPlan plan = plan_export(model.units(), file_dtype(precision));
  const auto write = [&](const std::string& temporary) {
    std::vector<float> values;
    for (size_t unit = 0; unit < model.units().size(); ++unit) {
      const ShardLayout layout(model.units()[unit], comm.size());
      const ElementRange range = layout.shard(comm.rank());
      for (int64_t begin = range.begin; begin < range.end; begin += kChunkElements) {
        const int64_t end = std::min(begin + kChunkElements, range.end);
        values.resize(end - begin);
        model.read_unit_range(layout.unit(), begin, end, values);
        write_unit_range(plan, temporary, unit, begin, end, values);
      }
    }
  };
  export_by_all(comm, plan.files, directory, ExistingDirectory::kReplace, write,
                [&](const std::string& temporary) { finish_export(plan, temporary, config, text); });
}

Nf4ExportPlan export_quantized(const Communicator& comm, const HfModel& model, const std::string& directory,
                               ExistingDirectory existing) {
  Nf4ExportPlan plan;
  comm.run_agreed([&] { plan = plan_nf4_export(model); });
  export_by_all(
      comm, plan.files, directory, existing,
      [&](const std::string& temporary) {
        for (int64_t i = comm.rank(); i < std::ssize(plan.parameters); i += comm.size())
          write_nf4_parameter(plan, temporary, model, i);
      },
      [&](const std::string& temporary) { finish_nf4_export(plan, temporary, model); });
  return plan;
}

void export_adapter(const Communicator& comm, const ShardLayout& unit, std::span<const float> shard,
                    const std::string& directory, const LoraConfig& config, const ModelConfig& base,
                    const ExportedText& text) {
  const ExportPlan plan = plan_adapter_export(unit.unit(), base.shares_head());
  const ElementRange range = unit.shard(comm.rank());
  std::vector<int64_t> checksums = adapter_checksums(unit.unit(), range.begin, range.end, shard);
  comm.sum(checksums);
  const auto write = [&](const std::string& temporary) {
    write_unit_range(plan, temporary, 0, range.begin, range.end, shard);
  };
  export_by_all(comm, plan.files, directory, ExistingDirectory::kReplace, write, [&](const std::string& temporary) {
    write_text_files(text, base, temporary);  // TRL also saves the tokenizer beside an adapter
    finish_adapter_export(plan, temporary, config, unit.unit(), checksums);
  });
}

}  // namespace plumb
