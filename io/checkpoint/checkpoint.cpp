#include "io/checkpoint/checkpoint.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "io/checkpoint/directory.hpp"
#include "io/file/file.hpp"
#include "io/file/sha256.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxManifestBytes = 128 << 20;
constexpr const char* kManifest = "manifest.json";
constexpr const char* kCommit = "COMMIT";

std::string render_hash(const XXH128_hash_t& hash) { return fmt::format("{:016x}{:016x}", hash.high64, hash.low64); }

std::string sha256_of(const std::string& text) {
  Sha256 sum;
  sum.update(std::as_bytes(std::span(text)));
  return sum.hex_digest();
}

/// Appends bytes to a file, with a checksum of each block.
class BlockWriter {
 public:
  explicit BlockWriter(File& file) : file_(file), state_(XXH3_createState(), XXH3_freeState) { start_block(); }

  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const int64_t in_block = file_info_.num_bytes % kCheckpointBlockBytes;
      const auto piece = bytes.first(std::min(bytes.size(), static_cast<size_t>(kCheckpointBlockBytes - in_block)));
      file_.pwrite_exact(piece, file_info_.num_bytes);
      XXH3_128bits_update(state_.get(), piece.data(), piece.size());
      file_info_.num_bytes += std::ssize(piece);
      if (file_info_.num_bytes % kCheckpointBlockBytes == 0) finish_block();
      bytes = bytes.subspan(piece.size());
    }
  }
  CheckpointFile finish() {
    if (file_info_.num_bytes % kCheckpointBlockBytes != 0) finish_block();
    return file_info_;
  }

 private:
  void start_block() { XXH3_128bits_reset(state_.get()); }
  void finish_block() {
    file_info_.checksums.push_back(render_hash(XXH3_128bits_digest(state_.get())));
    start_block();
  }

  File& file_;
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
  CheckpointFile file_info_;
};

/// All arrays of a shard: parameters, then moments.
std::vector<std::span<std::byte>> bytes_of(const TrainedShard& shard) {
  std::vector<std::span<std::byte>> arrays = {std::as_writable_bytes(shard.parameters)};
  for (const std::span<std::byte> array : shard.moments->bytes()) arrays.push_back(array);
  return arrays;
}

/// The pieces of this rank's file, in their order.
std::vector<std::span<const std::byte>> stored_pieces(std::span<const CheckpointUnit> units,
                                                      std::span<const TrainedShard> shards, int rank) {
  std::vector<std::span<const std::byte>> pieces;
  for (size_t unit = 0; unit < units.size(); ++unit) {
    const int64_t elements = owned_range(units[unit], rank).size();
    const std::vector<MomentPiece> arrays = arrays_of(units[unit]);
    const std::vector<std::span<std::byte>> bytes = bytes_of(shards[unit]);
    for (size_t array = 0; array < arrays.size(); ++array)
      pieces.push_back(bytes[array].first(arrays[array].num_bytes(elements)));
  }
  return pieces;
}

/// Writes one piece after the other and fsyncs the file.
CheckpointFile write_file(const std::string& path, std::span<const std::span<const std::byte>> pieces, int64_t step) {
  int64_t num_bytes = 0;
  for (const std::span<const std::byte> piece : pieces) num_bytes += std::ssize(piece);
  File file = File::create(path);
  file.reserve(num_bytes);
  BlockWriter writer(file);
  for (const std::span<const std::byte> piece : pieces) writer.append(piece);
  const CheckpointFile written = writer.finish();
  Phase phase("checkpoint-written", step);
  file.sync();
  file.close();
  phase.next("checkpoint-synced");
  return written;
}

/// Collective: every rank's, by rank.
std::vector<CheckpointFile> gather_files(const Communicator& comm, const CheckpointFile& mine) {
  const std::vector<int64_t> sizes = comm.all_gather(mine.num_bytes);
  std::vector<std::vector<std::string>> checksums = comm.all_gather(mine.checksums);
  std::vector<CheckpointFile> files(sizes.size());
  for (size_t rank = 0; rank < files.size(); ++rank) files[rank] = {sizes[rank], std::move(checksums[rank])};
  return files;
}

/// The text of manifest.json, verified by COMMIT.
std::string read_committed_manifest(const std::string& path) {
  const std::string commit = join_path(path, kCommit), manifest = join_path(path, kManifest);
  if (!is_regular_file(commit)) throw_error<DataError>("{}: expected a file COMMIT, which comes last, got none", path);
  const std::string expected = read_text_file(commit, 4096);
  std::string text = read_text_file(manifest, kMaxManifestBytes);
  if (sha256_of(text) + "\n" != expected)
    throw_error<DataError>("{}: expected the SHA-256 that COMMIT names, got another", manifest);
  return text;
}

/// The blocks of all files, dealt to the ranks in turn.
void verify_files(const Communicator& comm, const Checkpoint& checkpoint) {
  std::vector<std::byte> buffer(kCheckpointBlockBytes);
  const CheckpointManifest& manifest = checkpoint.manifest;
  int64_t number = 0;
  for (int writer = 0; writer < manifest.num_ranks(); ++writer) {
    const CheckpointFile& expected = manifest.files[writer];
    const std::string path = join_path(checkpoint.path, checkpoint_file_name(writer, manifest.num_ranks()));
    const File file = File::open_for_reading(path);
    if (file.size_bytes() != expected.num_bytes)
      throw_error<DataError>("{}: expected {} bytes, got {}", path, expected.num_bytes, file.size_bytes());
    for (size_t block = 0; block < expected.checksums.size(); ++block) {
      if (number++ % comm.size() != comm.rank()) continue;
      const int64_t begin = static_cast<int64_t>(block) * kCheckpointBlockBytes;
      const auto bytes = std::span(buffer).first(std::min(kCheckpointBlockBytes, expected.num_bytes - begin));
      file.pread_exact(bytes, begin);
      const std::string got = render_hash(XXH3_128bits(bytes.data(), bytes.size()));
      if (got != expected.checksums[block])
        throw_error<DataError>("{}: bytes {} to {}: expected checksum {}, got {}; the file was damaged", path, begin,
                               begin + std::ssize(bytes), expected.checksums[block], got);
    }
  }
}

/// Throws DataError where the units differ in more than in how they were sharded.
void check_same_units(const Checkpoint& checkpoint, std::vector<CheckpointUnit> wanted) {
  const std::vector<CheckpointUnit>& saved = checkpoint.manifest.units;
  for (size_t unit = 0; unit < std::min(wanted.size(), saved.size()); ++unit)
    wanted[unit].shard_elements = saved[unit].shard_elements;
  if (wanted != saved)
    throw_error<DataError>("{}: expected the {} units that are trained, their parameters and moments, got others",
                           checkpoint.path, wanted.size());
}

/// Reads files by rank, each opened once.
class ShardReader {
 public:
  explicit ShardReader(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint), files_(checkpoint.manifest.files.size()) {}

  /// Elements of a unit into arrays that begin with the first of them.
  void read(size_t unit, ElementRange range, std::span<const std::span<std::byte>> into) {
    for (const CheckpointPiece& piece : pieces_of(checkpoint_.manifest.units, unit, range))
      file(piece.writer).pread_exact(into[piece.array].subspan(piece.into_offset, piece.num_bytes), piece.file_offset);
  }

 private:
  const File& file(int writer) {
    std::optional<File>& file = files_[writer];
    if (!file)
      file.emplace(File::open_for_reading(
          join_path(checkpoint_.path, checkpoint_file_name(writer, checkpoint_.manifest.num_ranks()))));
    return *file;
  }

  const Checkpoint& checkpoint_;
  std::vector<std::optional<File>> files_;
};

}  // namespace

int64_t checkpoint_bytes(const Communicator& comm, std::span<const TrainedShard> shards) {
  int64_t bytes = checkpoint_file_bytes(describe_units(shards), comm.rank());
  comm.sum({&bytes, 1});
  return bytes;
}

CheckpointSave::CheckpointSave(const Communicator& comm, const std::string& directory, int64_t step,
                               nlohmann::ordered_json run, std::span<const TrainedShard> shards,
                               std::vector<std::byte>* buffer)
    : comm_(comm) {
  manifest_.step = step;
  manifest_.run = std::move(run);
  manifest_.units = describe_units(shards);
  const int64_t total_bytes = checkpoint_bytes(comm, shards);
  const std::vector<std::span<const std::byte>> pieces = stored_pieces(manifest_.units, shards, comm.rank());
  temporary_ = comm.from_rank0([&] {
    directory_.emplace(join_path(directory, checkpoint_name(step)), ExistingDirectory::kReplaceAnything);
    check_free_space(directory, total_bytes);
    const Phase phase("checkpoint-begun", step);
    return directory_->temporary_path();
  });
  comm.run_agreed([&] {
    if (buffer == nullptr) return;
    buffer->clear();
    buffer->reserve(checkpoint_file_bytes(manifest_.units, comm.rank()));
    for (const std::span<const std::byte> piece : pieces) buffer->insert(buffer->end(), piece.begin(), piece.end());
  });
  if (buffer == nullptr) {
    write(pieces);
    return;
  }
  thread_ = std::jthread([this, copy = std::span<const std::byte>(*buffer)] { write(std::span(&copy, 1)); });
}

void CheckpointSave::write(std::span<const std::span<const std::byte>> pieces) {
  try {
    file_ = write_file(join_path(temporary_, checkpoint_file_name(comm_.rank(), comm_.size())), pieces, step());
  } catch (...) {
    error_ = std::current_exception();  // which finish() throws on all ranks
  }
  is_written_ = true;
}

void CheckpointSave::finish() {
  if (thread_.joinable()) thread_.join();
  try {
    comm_.run_agreed([&] {
      if (error_) std::rethrow_exception(error_);
    });
    manifest_.files = gather_files(comm_, file_);
    comm_.run_on_rank0([&] {
      const std::string text = render_manifest(manifest_);
      write_new_file(join_path(temporary_, kManifest), text);
      Phase phase("checkpoint-described", step());
      write_new_file(join_path(temporary_, kCommit), sha256_of(text) + "\n");
      phase.next("checkpoint-committed");
      directory_->publish();
      phase.next("checkpoint-renamed");
    });
  } catch (const AgreedError&) {
    directory_.reset();
    throw;
  }
  directory_.reset();
}

Checkpoint open_checkpoint(const Communicator& comm, const std::string& path) {
  const std::string text = comm.from_rank0([&] { return read_committed_manifest(path); });
  Checkpoint checkpoint{path, {}};
  comm.run_agreed([&] {
    checkpoint.manifest = parse_manifest(text, join_path(path, kManifest));
    verify_files(comm, checkpoint);
  });
  return checkpoint;
}

void restore_checkpoint(const Communicator& comm, const Checkpoint& checkpoint, std::span<const TrainedShard> shards) {
  comm.run_agreed([&] {
    const std::vector<CheckpointUnit> units = describe_units(shards);
    check_same_units(checkpoint, units);
    ShardReader reader(checkpoint);
    for (size_t unit = 0; unit < units.size(); ++unit) {
      const ElementRange mine = owned_range(units[unit], comm.rank());
      reader.read(unit, mine, bytes_of(shards[unit]));
    }
  });
}

}  // namespace plumb
