#include "io/dataset/content_hash.hpp"

#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <span>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr int64_t kBlockBytes = 4 << 20;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

}  // namespace

// Blocks are hashed by ranks in turn; the hash of a file is that of its blocks' hashes, so it does not depend on the
// number of ranks.
nlohmann::json describe_files(const Communicator& comm, const std::vector<std::string>& paths) {
  // rank 0's, so that all ranks count the same blocks
  const std::vector<int64_t> sizes = comm.from_rank0([&] {
    std::vector<int64_t> sizes_on_rank0;
    for (const std::string& path : paths) sizes_on_rank0.push_back(File::open_for_reading(path).size_bytes());
    return sizes_on_rank0;
  });
  std::vector<size_t> first_block = {0};
  for (const int64_t size : sizes) {
    first_block.push_back(first_block.back() + static_cast<size_t>((size + kBlockBytes - 1) / kBlockBytes));
  }
  std::vector<int64_t> hashes(first_block.back(), 0);
  comm.run_agreed([&] {
    std::vector<std::byte> buffer(kBlockBytes);
    for (size_t i = 0; i < paths.size(); ++i) {
      const File file = File::open_for_reading(paths[i]);
      for (size_t block = first_block[i]; block < first_block[i + 1]; ++block) {
        if (block % static_cast<size_t>(comm.size()) != static_cast<size_t>(comm.rank())) continue;
        const int64_t begin = static_cast<int64_t>(block - first_block[i]) * kBlockBytes;
        const auto bytes = std::span(buffer).first(std::min(kBlockBytes, sizes[i] - begin));
        file.pread_exact(bytes, begin);
        hashes[block] = std::bit_cast<int64_t>(XXH3_64bits(bytes.data(), bytes.size()));
      }
    }
  });
  // one rank has the hash of a block, and the others add zero
  comm.sum(hashes);
  nlohmann::json files = nlohmann::json::array();
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto blocks = std::span(hashes).subspan(first_block[i], first_block[i + 1] - first_block[i]);
    files.push_back({{"bytes", sizes[i]}, {"xxh3", hex(XXH3_64bits(blocks.data(), blocks.size_bytes()))}});
  }
  return files;
}

std::string hash_of_text(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return hex(hash.high64) + hex(hash.low64);
}

std::string hash_of_files(const Communicator& comm, const std::vector<std::string>& paths) {
  return hash_of_text(describe_files(comm, paths).dump());
}

namespace {

/// Collective: the hash of a config file and all *.safetensors beside it.
std::string hash_of_weights(const Communicator& comm, const std::string& directory, const char* config_name) {
  // rank 0 alone looks at names: ranks might see a directory differently for a while
  const std::vector<std::string> names = comm.from_rank0([&] {
    std::error_code error;
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      if (entry.path().extension() == ".safetensors") found.push_back(entry.path().filename().string());
    }
    if (error) throw_error<InputOutputError>("{}: cannot list: {}", directory, error.message());
    std::sort(found.begin(), found.end());
    found.insert(found.begin(), config_name);
    return found;
  });
  std::vector<std::string> paths;
  for (const std::string& name : names) paths.push_back(join_path(directory, name));
  return hash_of_text(fmt::format("{}{}", fmt::join(names, "/"), describe_files(comm, paths).dump()));
}

}  // namespace

std::string model_hash(const Communicator& comm, const std::string& model_directory) {
  return hash_of_weights(comm, model_directory, "config.json");
}

std::string adapter_hash(const Communicator& comm, const std::string& adapter_directory) {
  return hash_of_weights(comm, adapter_directory, "adapter_config.json");
}

}  // namespace plumb
