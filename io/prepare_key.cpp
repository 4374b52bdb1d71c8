#include "io/prepare_key.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "io/file.hpp"
#include "io/record_file.hpp"
#include "io/sha256.hpp"
#include "io/token_shard.hpp"
#include "io/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

/// Goes up when the same files and options would give other tokens.
constexpr int64_t kPrepareVersion = 1;

constexpr int64_t kBlockBytes = 4 << 20;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

/// Collective: rank 0's sizes of the files, so that all ranks count the same blocks.
std::vector<int64_t> agreed_sizes(const Communicator& comm, const std::vector<std::string>& paths) {
  std::vector<int64_t> sizes(paths.size());
  comm.run_on_rank0([&] {
    for (size_t i = 0; i < paths.size(); ++i) sizes[i] = File::open_for_reading(paths[i]).size_bytes();
  });
  std::string bytes(reinterpret_cast<const char*>(sizes.data()), sizes.size() * sizeof(int64_t));
  comm.broadcast(bytes);
  std::memcpy(sizes.data(), bytes.data(), bytes.size());
  return sizes;
}

/// Collective: size and hash of each file. Blocks are hashed by ranks in turn; the hash of a file is that of its
/// blocks' hashes, so it does not depend on who did which.
nlohmann::json describe_files(const Communicator& comm, const std::vector<std::string>& paths) {
  const std::vector<int64_t> sizes = agreed_sizes(comm, paths);
  std::vector<size_t> first_block = {0};
  for (const int64_t size : sizes) {
    first_block.push_back(first_block.back() + static_cast<size_t>((size + kBlockBytes - 1) / kBlockBytes));
  }
  std::vector<int64_t> hashes(first_block.back(), 0);
  comm.run_agreed([&] {
    std::vector<std::byte> buffer(static_cast<size_t>(kBlockBytes));
    for (size_t i = 0; i < paths.size(); ++i) {
      const File file = File::open_for_reading(paths[i]);
      for (size_t block = first_block[i]; block < first_block[i + 1]; ++block) {
        if (block % static_cast<size_t>(comm.size()) != static_cast<size_t>(comm.rank())) continue;
        const int64_t begin = static_cast<int64_t>(block - first_block[i]) * kBlockBytes;
        const auto bytes = std::span(buffer).first(static_cast<size_t>(std::min(kBlockBytes, sizes[i] - begin)));
        file.pread_exact(bytes, begin);
        hashes[block] = std::bit_cast<int64_t>(XXH3_64bits(bytes.data(), bytes.size()));
      }
    }
  });
  // every block has one rank that knows its hash; the others add zero
  comm.sum(hashes);
  nlohmann::json files = nlohmann::json::array();
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto blocks = std::span(hashes).subspan(first_block[i], first_block[i + 1] - first_block[i]);
    files.push_back({{"bytes", sizes[i]}, {"xxh3", hex(XXH3_64bits(blocks.data(), blocks.size_bytes()))}});
  }
  return files;
}

/// Those that rows of this use depend on.
nlohmann::json describe_options(const PrepareOptions& options) {
  check(options.use != RowUse::kAny, "what rows are for is known when they are prepared");
  if (options.use == RowUse::kPreference) {
    const PairOptions& pair = options.pair;
    return {{"kind", kPairsKind},
            {"max_length", pair.max_length},
            {"drops_long_pairs", pair.drops_long_pairs},
            {"parses_special_tokens", pair.parses_special_tokens}};
  }
  const SftOptions& sft = options.sft;
  return {{"kind", kSftKind},
          {"max_length", sft.max_length},
          {"completion_only_loss",
           sft.completion_only_loss ? nlohmann::json(*sft.completion_only_loss) : nlohmann::json(nullptr)},
          {"assistant_only_loss", sft.assistant_only_loss},
          {"parses_special_tokens", sft.parses_special_tokens}};
}

}  // namespace

nlohmann::json describe_inputs(const Communicator& comm, const PrepareOptions& options) {
  nlohmann::json files = describe_files(comm, options.files);
  // rank 0 alone looks at names and small files: ranks might see a directory differently for a while
  std::string text;
  comm.run_on_rank0([&] {
    for (size_t i = 0; i < options.files.size(); ++i) {
      files[i]["format"] = name_of(find_record_format(options.files[i]));
    }
    nlohmann::json tokenizer = nlohmann::json::array();
    for (const std::string& path : tokenizer_files(options.model_directory)) {
      tokenizer.push_back({{"file", path.substr(path.find_last_of('/') + 1)}, {"sha256", sha256_of_file(path)}});
    }
    nlohmann::json inputs = describe_options(options);
    inputs["prepare_version"] = kPrepareVersion;
    inputs["dataset_version"] = kDatasetVersion;
    inputs["files"] = files;
    inputs["tokenizer"] = tokenizer;
    inputs["columns"] = options.columns;
    inputs["template"] = options.template_name;
    text = inputs.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  });
  comm.broadcast(text);
  return nlohmann::json::parse(text);
}

std::string key_of(const nlohmann::json& inputs) {
  const std::string text = inputs.dump();
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return hex(hash.high64) + hex(hash.low64);
}

}  // namespace plumb
