// The inputs of prepare_data(): files, and how their rows are read and tokenized.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/huggingface/tokenizer_files.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"

namespace plumb {

struct PrepareOptions {
  std::vector<std::string> files;
  std::map<std::string, std::string> columns;  // role to column, over what the first row of a file says
  std::string template_name;                   // "": the model's own, or the default of the rows' shape
  RowUse use = RowUse::kSft;                   // kAny: from the shape of the first row of the first file
  SftOptions sft = {};
  PairOptions pair = {};
  TokenizerSource tokenizer;
  int64_t vocab_size = 0;  // rows of the embedding; 0: unknown
};

}  // namespace plumb
