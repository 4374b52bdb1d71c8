// The inputs of a prepared dataset, as JSON, and their hash: the name under which the dataset is found again.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "io/dataset/prepare_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Incremented when the same files and options would give other tokens or masks.
inline constexpr int64_t kPrepareVersion = 4;

/// Collective: contents of data and tokenizer files by hash, the options, the format version; the same on every rank
/// and for any number of them. It depends on contents, not on paths; options.use is not kAny. Throws InputOutputError.
nlohmann::json describe_inputs(const Communicator& comm, const PrepareOptions& options);

/// 32 hexadecimal digits.
std::string key_of(const nlohmann::json& inputs);

}  // namespace plumb
