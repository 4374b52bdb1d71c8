// Hashes of the contents of files, computed by all ranks together: they identify the inputs of prepared data and of
// reference log-probabilities. Source: xxHash, XXH3.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "partition/communicator.hpp"

namespace plumb {

/// Collective: [{"bytes", "xxh3"}] of the files, the same on every rank and for any number of them. Throws AgreedError.
nlohmann::json describe_files(const Communicator& comm, const std::vector<std::string>& paths);

/// 32 hexadecimal digits.
std::string hash_of_text(std::string_view text);

/// Collective: 32 hexadecimal digits of the files' contents. Throws AgreedError.
std::string hash_of_files(const Communicator& comm, const std::vector<std::string>& paths);

/// Collective: 32 hexadecimal digits of config.json and all *.safetensors of a model, names and contents, the same on
/// every rank and for any number of them. Throws AgreedError.
std::string model_hash(const Communicator& comm, const std::string& model_directory);

/// Collective: the same for a PEFT adapter, adapter_config.json and its *.safetensors.
std::string adapter_hash(const Communicator& comm, const std::string& adapter_directory);

}  // namespace plumb
