// Stages and adapters with the exchange for GPUs, on a fake GPU: losses, norms and parameters have the bits of the
// CPU's exchange. Part of test_partition.nccl_exchange.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/cuda_fake/fake_gpu.hpp"
#include "tests/support/tiny_adapter.hpp"

namespace plumb {
namespace {

using test::AdapterCase;
using test::all_linear;
using test::Task;

struct Case {
  Task task;
  AdapterCase adapter;  // without targets: the whole model is trained
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {Task::kSft, {"lora with dropout", all_linear(false, 0.2)}},
      {Task::kDpo, {"dpo in bfloat16", {}, at::kBFloat16}},
      {Task::kSft, {"qlora in bfloat16", all_linear(false), at::kBFloat16, true, false}},
      {Task::kReward, {"reward", {}}},
      {Task::kSft, {"dora in bfloat16, tied", all_linear(true), at::kBFloat16, false, true, true}},
      {Task::kReward, {"reward by lora, with its score", all_linear(false, 0, {ParameterKind::kScore})}},
      {Task::kSft, {"qlora with dora", all_linear(true), at::kFloat, true}},
      {Task::kDpo, {"dpo by qlora", all_linear(false), at::kFloat, true}},
      {Task::kSft,
       {"lora beside a trained embedding and head",
        all_linear(false, 0, {ParameterKind::kEmbedding, ParameterKind::kHead})}}};
  return all;
}

test::Outcome train(const Communicator& comm, const Case& given, test::TrainingRun run) {
  run.task = given.task;
  if (!given.adapter.adapter.targets.empty()) return test::train_adapter(comm, given.adapter, run);
  return test::train(comm, test::tiny_config(given.adapter.is_tied), {.dtype = given.adapter.dtype}, run);
}

struct FakeRun {
  test::Outcome outcome;
  std::vector<std::string> errors;
};

FakeRun train_on_fake(const Communicator& comm, const Case& given, uint64_t num_steps, GpuWire wire, uint64_t seed,
                      const fake::Faults& faults) {
  FakeRun run;
  fake::start(seed * 1000 + static_cast<uint64_t>(comm.rank()), faults);
  {
    const fake::Gpu gpu;
    run.outcome =
        train(comm, given,
              {num_steps, fake::on_gpu(gpu, wire, seed % 2 == 0 ? 3'000 : kMaxReceiveBytes), fake::touch_shards});
  }
  run.errors = fake::end();
  return run;
}

void expect_bits_of_cpu(const Communicator& comm, const Case& given, uint64_t num_steps, GpuWire wire, uint64_t seed) {
  SCOPED_TRACE(testing::Message() << given.adapter.name << " on " << comm.size() << " ranks, seed " << seed);
  const test::Outcome node = train(comm, given, {.num_steps = num_steps});
  EXPECT_GT(node.norms[0], 0);
  const FakeRun run =
      train_on_fake(comm, given, num_steps, wire, seed, {.in_progress_polls = static_cast<int>(seed % 3)});
  EXPECT_EQ(run.outcome.losses, node.losses);
  EXPECT_EQ(run.outcome.norms, node.norms);
  EXPECT_EQ(run.outcome.parameters, node.parameters);
  for (const std::string& error : run.errors) ADD_FAILURE() << error;
}

class StagesOnGpu : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    fake::connect_processes();
    fake::put_tensors_on_device();
  }
};

TEST_F(StagesOnGpu, HaveTheBitsOfTheCpu) {
  const uint64_t num_schedules = fake::num_schedules();
  const std::vector<std::vector<int>> divisions = {{8}, {6, 2}, {3, 3, 1, 1}};
  for (size_t division = 0; division < divisions.size(); ++division)
    fake::run_jobs(divisions[division], [&](const Communicator& comm, int job) {
      for (size_t i = 0; i < cases().size(); ++i) {
        if (num_schedules == 1 && i % 3 != division) continue;  // by hand all, on all numbers of ranks
        const uint64_t num_steps = num_schedules == 1 && division == 0 ? 1 : 2;
        for (uint64_t schedule = 0; schedule < num_schedules; ++schedule)
          expect_bits_of_cpu(comm, cases()[i], num_steps, GpuWire::kNccl, schedule + static_cast<uint64_t>(job) + 1);
        if (comm.size() == 2) expect_bits_of_cpu(comm, cases()[i], num_steps, GpuWire::kHost, 1);
      }
    });
}

// The waits of an adapter and of its base, which exchange one after the other. By hand all.
TEST_F(StagesOnGpu, NoticeForgottenWaitsAndRecords) {
  fake::run_jobs({2, 2, 2, 2}, [&](const Communicator& comm, int job) {
    const Case& qlora = cases()[2];
    const auto run = [&](const fake::Faults& faults) {
      return train_on_fake(comm, qlora, 1, GpuWire::kNccl, 1, faults).errors;
    };
    EXPECT_EQ(run({}), std::vector<std::string>());
    const int64_t num_waits = fake::num_waits(), num_records = fake::num_records();
    EXPECT_GT(num_waits, 100);
    const auto forget = [&](int64_t fake::Faults::*forgotten, int64_t count) {
      const int64_t stride = fake::num_schedules() > 1 ? 4 : count;
      for (int64_t i = job * (stride / 4); i < count; i += stride) {
        fake::Faults faults;
        faults.*forgotten = i;
        const std::vector<std::string> errors = run(faults);
        // of both ranks, since one that reads too early may harm the other only
        int64_t num_errors = std::ssize(errors);
        MPI_Allreduce(MPI_IN_PLACE, &num_errors, 1, MPI_INT64_T, MPI_SUM, comm.mpi());
        EXPECT_TRUE(num_errors > 0 || fake::forgotten().empty()) << fake::forgotten();
      }
    };
    forget(&fake::Faults::forgotten_wait, num_waits);
    forget(&fake::Faults::forgotten_record, num_records);
  });
}

}  // namespace
}  // namespace plumb
