// The exchange for GPUs on a fake GPU (tests/cuda_fake): the whole engine trains with it, with the bits of the CPU's
// exchange, in random schedules; a wait that is left out, and an error of NCCL, are found by name. The compute stream
// is the CPU operators of this process.
#include "partition/nccl_exchange.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <map>
#include <string>

#include "lib/device/transfer.hpp"
#include "partition/watchdog.hpp"
#include "tests/cuda_fake/fake_gpu.hpp"
#include "tests/support/tiny_config.hpp"
#include "tests/support/tiny_training.hpp"

namespace plumb {
namespace {

using fake::Gpu;
using fake::num_schedules;

struct Case {
  const char* name;
  bool ties_embeddings;
  EngineOptions options;
  int64_t max_receive_bytes;
};

const std::vector<Case> kCases = {
    {"untied_float32", false, {.dtype = at::kFloat}, kMaxReceiveBytes},
    {"tied_bfloat16_in_pieces", true, {.dtype = at::kBFloat16, .has_gradient_checkpointing = false}, 20'000},
    {"untied_bfloat16", false, {.dtype = at::kBFloat16}, 3'000},
    {"untied_fast", false, {.dtype = at::kFloat, .reduction = Reduction::kFast}, kMaxReceiveBytes}};

/// seed 0: with a HostExchange.
test::Outcome train_on_fake(const Communicator& comm, const Case& given, uint64_t seed, uint64_t num_steps) {
  fake::start(seed * 1000 + static_cast<uint64_t>(comm.rank()), {.in_progress_polls = static_cast<int>(seed % 3)});
  test::Outcome outcome;
  {
    const Gpu gpu;
    const GpuWire wire = seed == 0 ? GpuWire::kHost : GpuWire::kNccl;
    outcome = test::train(comm, test::tiny_config(given.ties_embeddings), given.options,
                          {num_steps, fake::on_gpu(gpu, wire, given.max_receive_bytes), fake::touch_shards});
  }
  for (const std::string& error : fake::end()) ADD_FAILURE() << given.name << ", seed " << seed << ": " << error;
  return outcome;
}

void compare(const test::Outcome& fake, const test::Outcome& node, bool is_fast) {
  if (is_fast) {
    for (size_t step = 0; step < node.losses.size(); ++step) {
      EXPECT_NEAR(fake.losses[step], node.losses[step], 1e-5 * node.losses[step]);
      EXPECT_NEAR(fake.norms[step], node.norms[step], 1e-5 * node.norms[step]);
    }
    return;
  }
  EXPECT_EQ(fake.losses, node.losses);
  EXPECT_EQ(fake.norms, node.norms);
  EXPECT_EQ(fake.parameters, node.parameters);
}

void train_in_jobs(const std::vector<int>& sizes) {
  fake::run_jobs(sizes, [&](const Communicator& comm, int job) {
    for (size_t i = 0; i < kCases.size(); ++i) {
      if (num_schedules() == 1 && i % 3 != sizes.size() / 2) continue;  // by hand all, on all numbers of ranks
      const Case& given = kCases[i];
      SCOPED_TRACE(testing::Message() << given.name << " on " << comm.size() << " ranks");
      const uint64_t num_steps = num_schedules() == 1 && sizes.size() == 1 ? 1 : 2;
      const test::Outcome node =
          test::train(comm, test::tiny_config(given.ties_embeddings), given.options, {.num_steps = num_steps});
      EXPECT_GT(node.norms[0], 0);
      if (comm.size() == 2) compare(train_on_fake(comm, given, 0, num_steps), node, false);
      for (uint64_t schedule = 0; schedule < num_schedules(); ++schedule)
        compare(train_on_fake(comm, given, schedule + static_cast<uint64_t>(job) + 1, num_steps), node,
                given.options.reduction == Reduction::kFast && comm.size() > 1);
    }
  });
}

class NcclExchangeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    fake::connect_processes();
    fake::put_tensors_on_device();
  }
};

TEST_F(NcclExchangeTest, TrainsWithTheBitsOfNodeExchange) {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  ASSERT_EQ(size, 8);
  for (const std::vector<int>& jobs : {std::vector<int>{8}, {6, 2}, {3, 3, 1, 1}}) train_in_jobs(jobs);
}

/// Two updates of two micro-batches on an exchange alone, with whole numbers, which any order sums exactly.
class Passes {
 public:
  Passes(const Communicator& comm, const Gpu& gpu, bool is_watched)
      : comm_(comm), units_(shard_layouts(test::tiny_config(), comm.size())) {
    auto exchange = std::make_unique<NcclExchange>(comm, units_, plan_buffers(units_, false, 2),
                                                   ExchangeOptions{.dtype = at::kBFloat16, .accumulation_steps = 2},
                                                   gpu.compute(), 10'000);
    if (is_watched)
      exchange_ = std::make_unique<fake::TouchingExchange>(std::move(exchange));
    else
      exchange_ = std::move(exchange);
    for (const ShardLayout& layout : units_) {
      masters_.push_back(at::full({layout.shard_elements()}, comm.rank() + 1.0, at::kFloat));
      for (std::vector<at::Tensor>& level : levels_) level.push_back(at::empty({layout.shard_elements()}, at::kFloat));
    }
  }

  /// Returns whether all numbers are right. Without `computes` nothing is read or written.
  bool update(bool computes) {
    for (int64_t accumulation = 0; accumulation < 2; ++accumulation) pass(accumulation, computes);
    if (!computes) return true;
    for (size_t unit = 0; unit < units_.size(); ++unit) {
      const at::Tensor& sum = levels_[0][unit];
      fake::touch("the update", {fake::reads(sum.data_ptr(), sum.nbytes()),
                                 fake::writes(masters_[unit].data_ptr(), masters_[unit].nbytes())});
      is_right_ = is_right_ && sum.max().item<float>() == 2.0f * static_cast<float>(comm_.size());
      masters_[unit].add_(comm_.size());
    }
    ++num_updates_;
    return is_right_;
  }

 private:
  void pass(int64_t accumulation, bool computes) {
    const BufferPlan& plan = exchange_->plan();
    const auto num_gathers = static_cast<int>(plan.gathers.size()), num_reduces = static_cast<int>(plan.reduces.size());
    start_gather(0);
    for (int gather = 0, reduce = 0; gather < num_gathers || reduce < num_reduces; ++gather) {
      if (gather < num_gathers) use_unit(gather, computes);
      if (gather < plan.num_forward_gathers - 1 || reduce == num_reduces) continue;
      const at::Tensor gradient = exchange_->gradient_buffer(reduce);
      if (computes) gradient.fill_(1);
      std::array<float*, 2> levels = {};
      for (size_t level = 0; level < levels.size(); ++level)
        levels[level] = levels_[level][plan.reduces[reduce].unit].data_ptr<float>();
      level_data_[reduce] = levels;
      exchange_->start_reduce(reduce, accumulation, level_data_[reduce]);
      if (reduce > 0) exchange_->finish_reduce(reduce - 1);
      ++reduce;
    }
    exchange_->finish_reduce(num_reduces - 1);
  }
  void start_gather(int gather) {
    const at::Tensor& master = masters_[exchange_->plan().gathers[gather].unit];
    exchange_->start_gather(gather, std::span(master.const_data_ptr<float>(), master.numel()));
  }
  void use_unit(int gather, bool computes) {
    const at::Tensor flat = exchange_->finish_gather(gather);
    if (gather + 1 < std::ssize(exchange_->plan().gathers)) start_gather(gather + 1);
    if (computes) {
      const at::Tensor shards = flat.to(at::kFloat).view({comm_.size(), -1});
      for (int rank = 0; rank < comm_.size(); ++rank)
        is_right_ = is_right_ && shards[rank].eq(rank + 1.0 + num_updates_ * comm_.size()).all().item<bool>();
    }
    exchange_->release_gather();
  }

  const Communicator& comm_;
  std::vector<ShardLayout> units_;
  std::vector<at::Tensor> masters_;
  std::array<std::vector<at::Tensor>, 2> levels_;
  std::map<int, std::array<float*, 2>> level_data_;
  std::unique_ptr<Exchange> exchange_;
  int num_updates_ = 0;
  bool is_right_ = true;
};

struct PassesRun {
  bool is_right;
  std::vector<std::string> errors;
};

PassesRun run_passes(const Communicator& comm, uint64_t seed, const fake::Faults& faults) {
  fake::start(seed, faults);
  PassesRun run = {true, {}};
  {
    const Gpu gpu;
    Passes passes(comm, gpu, /*is_watched=*/true);
    for (int update = 0; update < 2; ++update) run.is_right = passes.update(/*computes=*/true);
  }
  run.errors = fake::end();
  return run;
}

/// The ranks of the test in pairs; number of this rank's pair.
class Pairs {
 public:
  Pairs() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    number_ = rank / 2;
    MPI_Comm_split(MPI_COMM_WORLD, number_, rank, &mpi_);
  }
  ~Pairs() { MPI_Comm_free(&mpi_); }
  Pairs(const Pairs&) = delete;
  Pairs& operator=(const Pairs&) = delete;
  MPI_Comm mpi() const { return mpi_; }
  int number() const { return number_; }

 private:
  MPI_Comm mpi_ = MPI_COMM_NULL;
  int number_ = 0;
};

/// Runs the passes again, each time with another wait (or record) that does nothing; the pairs divide them. Returns
/// what was forgotten and not noticed, on every rank.
std::vector<std::string> unnoticed(const Communicator& pair, int pair_number, int64_t fake::Faults::*forgotten,
                                   int64_t count) {
  std::vector<std::string> mine;
  // all of them by hand
  const int64_t stride = num_schedules() > 1 ? 4 : 60;
  for (int64_t i = pair_number * (stride / 4); i < count; i += stride) {
    fake::Faults faults;
    faults.*forgotten = i;
    const PassesRun run = run_passes(pair, 1, faults);
    EXPECT_TRUE(run.is_right || !run.errors.empty()) << fake::forgotten();
    if (run.errors.empty() && pair.rank() == 0 && !fake::forgotten().empty()) mine.push_back(fake::forgotten());
  }
  std::vector<std::string> all;
  for (const std::vector<std::string>& names : Communicator().all_gather(mine))
    all.insert(all.end(), names.begin(), names.end());
  return all;
}

TEST_F(NcclExchangeTest, NoticesEveryForgottenWait) {
  const Pairs pairs;
  const Communicator comm(0, pairs.mpi());
  const PassesRun right = run_passes(comm, 1, {});
  EXPECT_TRUE(right.is_right);
  EXPECT_EQ(right.errors, std::vector<std::string>());
  const int64_t num_waits = fake::num_waits(), num_records = fake::num_records();
  EXPECT_GT(num_waits, 100);
  for (const std::string& name : unnoticed(comm, pairs.number(), &fake::Faults::forgotten_wait, num_waits))
    ADD_FAILURE() << name;
  for (const std::string& name : unnoticed(comm, pairs.number(), &fake::Faults::forgotten_record, num_records))
    ADD_FAILURE() << name;
}

/// The message of the error that two updates end with, on a compute stream that runs by itself; empty without one.
std::string error_of_passes(const Communicator& comm, const fake::Faults& faults) {
  fake::start(1, faults);
  std::string message;
  {
    const Gpu gpu(/*is_eager=*/false);
    try {
      Passes passes(comm, gpu, /*is_watched=*/false);
      for (int update = 0; update < 2; ++update) passes.update(/*computes=*/false);
    } catch (const Error& error) {
      message = error.what();
    }
  }
  EXPECT_EQ(fake::end(), std::vector<std::string>());
  return message;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_F(NcclExchangeTest, EndsWithTheNameOfTheOperationThatFails) {
  const Communicator comm(0, MPI_COMM_WORLD);
  EXPECT_EQ(error_of_passes(comm, {}), "");
  for (const int64_t operation : {0, 3, 20, 41}) {
    fake::Faults faults = {.in_progress_polls = 1};
    if (comm.rank() == 1) faults.failing_operation = operation;
    const std::string message = error_of_passes(comm, faults);
    if (comm.rank() != 1) {  // hears of it in the operation that it is in, which may be the first
      EXPECT_TRUE(contains(message, "NCCL: remote process exited")) << message;
      continue;
    }
    EXPECT_TRUE(contains(message, "rank 1: ")) << message;
    EXPECT_TRUE(contains(message, "unhandled system error (a fault of the test)")) << message;
    EXPECT_EQ(contains(message, "gather of unit 0, "), operation == 0) << message;
    EXPECT_EQ(contains(message, "exchange of gradients of unit "), operation > 3) << message;
  }
}

TEST_F(NcclExchangeTest, EndsOnAllRanksWhereOneCannotStart) {
  const Communicator comm(0, MPI_COMM_WORLD);
  const int last = comm.size() - 1;
  const auto on_last = [&](fake::Faults faults) { return comm.rank() == last ? faults : fake::Faults{}; };
  EXPECT_TRUE(contains(error_of_passes(comm, on_last({.fails_init = true})),
                       "rank " + std::to_string(last) + ": the start of NCCL: NCCL: unhandled system error"));
  EXPECT_TRUE(contains(error_of_passes(comm, on_last({.failing_allocation = 0})),
                       "no memory for gathered units and gradients"));
  EXPECT_EQ(error_of_passes(comm, on_last({.hangs_in_finalize = true})), "") << "aborted after its limit";
}

// Run by ctest as partition.nccl_exchange_hang, since it ends the job.
TEST_F(NcclExchangeTest, DISABLED_WatchdogNamesTheOperationThatARankNeverEnters) {
  const Communicator comm;
  const Watchdog watchdog(comm, 2);
  fake::Faults faults;
  if (comm.rank() == 1) faults.missing_operation = 5;
  error_of_passes(comm, faults);
  FAIL() << "the watchdog ends the job";
}

TEST_F(NcclExchangeTest, TransfersOfAnyLengthArrive) {
  fake::start(1);
  {
    const Gpu gpu(/*is_eager=*/false);
    for (const int64_t bytes : {1, 99, 100, 101, 200, 250, 1000}) {
      Transfer transfer(100);
      const DeviceMemory device(bytes, "a test");
      std::vector<std::byte> sent(bytes), received(bytes);
      for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 7);
      transfer.to_device(device.data(), sent, gpu.stream.get());
      transfer.to_host(received, device.data(), gpu.stream.get());
      EXPECT_EQ(received, sent);
    }
  }
  EXPECT_EQ(fake::end(), std::vector<std::string>());
}

}  // namespace
}  // namespace plumb
