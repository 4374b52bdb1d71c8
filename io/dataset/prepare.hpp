// Data files to token shards, once, in parallel over all ranks: each tokenizes a contiguous part of the rows and writes
// a shard of its own. The result is named by a hash of all that it was made from and is used again as long as that is
// the same.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/dataset/dataset_index.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"
#include "partition/communicator.hpp"

namespace plumb {

struct PrepareOptions {
  std::vector<std::string> files;
  std::map<std::string, std::string> columns;  // role to column, over what the first row of a file says
  std::string template_name;                   // "": the model's own, or the default of the rows' shape
  RowUse use = RowUse::kSft;                   // kAny: what the first row of the first file looks like
  SftOptions sft = {};
  PairOptions pair = {};
  std::string model_directory;  // for the tokenizer
  int64_t vocab_size = 0;       // rows of the embedding; 0: unknown
};

/// Collective: the index of `directory`/<key>, made now or before by any number of ranks, and the same on every rank.
/// Throws AgreedError with the code of UsageError, InputOutputError or DataError; then nothing of a new dataset
/// remains.
DatasetIndex prepare_data(const Communicator& comm, const PrepareOptions& options, const std::string& directory);

/// Where prepare_data() put the shards of this index.
std::string dataset_directory(const std::string& directory, const DatasetIndex& index);

}  // namespace plumb
