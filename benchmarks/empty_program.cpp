// Loads LibTorch and MPI, computes one product and exits: a lower bound for the start-up time of such a program.
#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <mpi.h>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const at::Tensor x = at::ones({64, 64});
  const bool is_right = at::mm(x, x).sum().item<float>() == 64.0f * 64.0f * 64.0f;
  MPI_Finalize();
  return is_right ? 0 : 1;
}
