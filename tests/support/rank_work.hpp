// Work of a test that needs one rank is divided among the ranks of the test, so that no two of them do the same.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <vector>

namespace plumb::test {

/// Whether this rank does piece number `piece`.
inline bool is_mine(size_t piece) {
  int rank = 0, num_ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
  return static_cast<int>(piece) % num_ranks == rank;
}

/// The results of num_pieces pieces of work; empty where the piece is another rank's.
template <class Result, class Work>
std::vector<Result> divide_among_ranks(size_t num_pieces, const Work& work) {
  std::vector<Result> results(num_pieces);
  for (size_t piece = 0; piece < num_pieces; ++piece)
    if (is_mine(piece)) results[piece] = work(piece);
  return results;
}

}  // namespace plumb::test
