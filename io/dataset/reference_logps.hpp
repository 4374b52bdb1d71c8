// Log-probabilities that a frozen model gives to the chosen and the rejected text of every example, computed once and
// kept beside the shards, reference_logps-<model>.h5: `logps` float64 [4 * examples], of each example the shared part
// and the tail (lib/model/batch.hpp) of the chosen text, then of the rejected one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/dataset/dataset.hpp"
#include "io/file/hdf5_file.hpp"
#include "lib/model/batch.hpp"
#include "partition/communicator.hpp"

namespace plumb {

struct ExampleLogps {
  int64_t example = 0;
  SequenceLogps chosen;
  SequenceLogps rejected;
};

class ReferenceLogps {
 public:
  /// `model`: model_hash(), and in letters, digits and '-' all else that the values depend on, such as the data type.
  /// Throws InputOutputError where there are none, DataError.
  ReferenceLogps(const Dataset& dataset, const std::string& model);

  const std::string& path() const { return file_.path(); }
  int64_t num_examples() const { return num_examples_; }

  /// Chosen and rejected in turn, of examples [begin, end), from any thread. Throws DataError where the file is damaged
  /// or a value is not finite.
  std::vector<SequenceLogps> read(int64_t begin, int64_t end) const;
  /// Reads every value, in pieces. Throws DataError.
  void check_all() const;

 private:
  Hdf5File file_;
  int64_t num_examples_ = 0;
  Hdf5Dataset logps_;
};

/// Collective: whether these values are there and intact, as rank 0 finds by reading all of them; logs why damaged ones
/// are not. Throws AgreedError.
bool has_reference_logps(const Communicator& comm, const Dataset& dataset, const std::string& model);

/// Collective: writes the values of all examples, of which each is among the `values` of exactly one rank, in any
/// order; rank 0 takes those of piece_examples at a time. The file is complete or not there. Throws AgreedError, with
/// the code of NumericError where a value is not finite.
void write_reference_logps(const Communicator& comm, const Dataset& dataset, const std::string& model,
                           std::vector<ExampleLogps> values, int64_t piece_examples = 64 * 1024);

}  // namespace plumb
