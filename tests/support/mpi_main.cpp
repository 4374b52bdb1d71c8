// main() of tests that run on several ranks: rank 0 prints as usual, the others print failures only, and a failed or
// skipped test on any rank counts for all. Before a collective, tests may use EXPECT only: a rank that returns early
// leaves the others waiting.
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "lib/base/end_process.hpp"
#include "tests/support/verdict.hpp"

namespace {

class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const char* file = result.file_name() == nullptr ? "unknown file" : result.file_name();
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", rank_, file, result.line_number(), result.message());
  }

  int rank_;
};

/// Prints the exception that ended this rank, then aborts the other ranks, which may wait for it.
[[noreturn]] void end_job() {
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "terminated: %s\n", error.what());
  } catch (...) {
    std::fprintf(stderr, "terminated by an exception of unknown type\n");
  }
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  // as in the program, whose ranks read ahead on threads that make no MPI calls
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  std::set_terminate(end_job);
  testing::InitGoogleTest(&argc, argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(rank));
  }
  int outcome[] = {RUN_ALL_TESTS() != 0 ? 1 : 0, testing::UnitTest::GetInstance()->skipped_test_count()};
  MPI_Allreduce(MPI_IN_PLACE, outcome, 2, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  plumb::end_process(plumb::test::verdict(outcome[0] != 0, outcome[1]));
}
