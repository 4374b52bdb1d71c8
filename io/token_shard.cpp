#include "io/token_shard.hpp"

#include <unistd.h>

#include <algorithm>

#include "io/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

// A chunk is what a checksum covers, so a row read at random costs at least one: a few rows long.
constexpr int64_t kTokensPerChunk = 16 * 1024;
constexpr int64_t kRowsPerChunk = 4 * 1024;
constexpr int64_t kPendingTokens = 4 * kTokensPerChunk;

Hdf5Dataset create_row_array(Hdf5File& file, const std::string& name) {
  return file.create_dataset<int64_t>(name, {kRowsPerChunk, -1});
}

Hdf5File open_shard(const std::string& path) {
  Hdf5File file = Hdf5File::open_for_reading(path);
  const int64_t version = file.integer_attribute("format_version");
  if (version != kTokenShardVersion) {
    throw_error<DataError>("{}: expected format version {}, got {}; prepare the data again with this plumb", path,
                           kTokenShardVersion, version);
  }
  const std::string kind = file.text_attribute("kind");
  if (kind != kSftKind) throw_error<DataError>("{}: expected rows of kind {}, got {}", path, kSftKind, kind);
  return file;
}

}  // namespace

void TokenRows::add(std::span<const int32_t> row_tokens, std::span<const uint8_t> row_mask, int64_t row_id) {
  check(row_tokens.size() == row_mask.size(), "a row has a mask for every token");
  tokens.insert(tokens.end(), row_tokens.begin(), row_tokens.end());
  loss_mask.insert(loss_mask.end(), row_mask.begin(), row_mask.end());
  offsets.push_back(num_tokens());
  row_ids.push_back(row_id);
}

TokenShardWriter::TokenShardWriter(const std::string& path)
    : path_(path),
      temporary_path_(fmt::format("{}.tmp-{}", path, ::getpid())),
      file_(Hdf5File::create(temporary_path_)),
      tokens_(file_.create_dataset<int32_t>("tokens", {kTokensPerChunk, -1})),
      loss_mask_(file_.create_dataset<uint8_t>("loss_mask", {kTokensPerChunk, 0})),
      offsets_(create_row_array(file_, "offsets")),
      row_id_(create_row_array(file_, "row_id")) {
  file_.set_attribute("format_version", kTokenShardVersion);
  file_.set_attribute("kind", kSftKind);
  const int64_t zero = 0;
  offsets_.append(std::span(&zero, 1));
}

TokenShardWriter::~TokenShardWriter() {
  if (!is_finished_) ::unlink(temporary_path_.c_str());
}

void TokenShardWriter::append(std::span<const int32_t> tokens, std::span<const uint8_t> loss_mask, int64_t row_id) {
  check(!tokens.empty() && row_id > last_row_id_, "a row has tokens, and row ids ascend");
  pending_.add(tokens, loss_mask, row_id);
  last_row_id_ = row_id;
  ++num_rows_;
  if (pending_.num_tokens() >= kPendingTokens || pending_.num_rows() >= kRowsPerChunk) flush();
}

void TokenShardWriter::flush() {
  for (int64_t& offset : pending_.offsets) offset += num_tokens_;
  tokens_.append(std::span<const int32_t>(pending_.tokens));
  loss_mask_.append(std::span<const uint8_t>(pending_.loss_mask));
  offsets_.append(std::span<const int64_t>(pending_.offsets).subspan(1));
  row_id_.append(std::span<const int64_t>(pending_.row_ids));
  num_tokens_ += pending_.num_tokens();
  pending_.clear();
}

void TokenShardWriter::finish() {
  flush();
  for (Hdf5Dataset* dataset : {&tokens_, &loss_mask_, &offsets_, &row_id_}) dataset->close();
  file_.close();
  File::open_for_writing(temporary_path_).sync();
  rename_path(temporary_path_, path_);
  is_finished_ = true;
  sync_directory(parent_path(path_));
}

TokenShardReader::TokenShardReader(const std::string& path, int64_t vocab_size)
    : file_(open_shard(path)),
      vocab_size_(vocab_size),
      tokens_(file_.open_dataset<int32_t>("tokens")),
      loss_mask_(file_.open_dataset<uint8_t>("loss_mask")),
      offsets_(file_.open_dataset<int64_t>("offsets")),
      row_id_(file_.open_dataset<int64_t>("row_id")) {
  if (loss_mask_.size() != tokens_.size()) {
    throw_error<DataError>("{}: expected a loss_mask for each of {} tokens, got {}", path, tokens_.size(),
                           loss_mask_.size());
  }
  if (offsets_.size() != row_id_.size() + 1) {
    throw_error<DataError>("{}: expected {} offsets for {} rows, got {}", path, row_id_.size() + 1, row_id_.size(),
                           offsets_.size());
  }
  int64_t first = 0, last = 0;
  offsets_.read(0, std::span(&first, 1));
  offsets_.read(num_rows(), std::span(&last, 1));
  if (first != 0 || last != tokens_.size()) {
    throw_error<DataError>("{}: expected offsets from 0 to {}, got {} to {}", path, tokens_.size(), first, last);
  }
}

std::vector<int64_t> TokenShardReader::read_offsets(int64_t begin, int64_t end) const {
  std::vector<int64_t> offsets(static_cast<size_t>(end - begin + 1));
  offsets_.read(begin, std::span(offsets));
  for (size_t i = 0; i < offsets.size(); ++i) {
    const int64_t least = i == 0 ? 0 : offsets[i - 1] + 1;  // a row has tokens
    if (offsets[i] < least || offsets[i] > tokens_.size()) {
      throw_error<DataError>("{}: row {}: expected an offset in [{}, {}], got {}", path(),
                             begin + static_cast<int64_t>(i), least, tokens_.size(), offsets[i]);
    }
  }
  return offsets;
}

void TokenShardReader::check_offsets() const {
  for (int64_t begin = 0; begin < num_rows(); begin += kRowsPerChunk) {
    read_offsets(begin, std::min(begin + kRowsPerChunk, num_rows()));
  }
}

std::vector<int64_t> TokenShardReader::read_row_tokens(int64_t begin, int64_t end) const {
  check(begin >= 0 && begin <= end && end <= num_rows(), "rows to read lie within the shard");
  std::vector<int64_t> row_tokens(static_cast<size_t>(end - begin));
  if (row_tokens.empty()) return row_tokens;
  const int64_t documents_per_row = (offsets_.size() - 1) / num_rows();
  std::vector<int64_t> offsets(static_cast<size_t>((end - begin) * documents_per_row + 1));
  offsets_.read(begin * documents_per_row, std::span(offsets));
  for (size_t i = 0; i < row_tokens.size(); ++i) {
    const size_t first = i * static_cast<size_t>(documents_per_row);
    row_tokens[i] = offsets[first + static_cast<size_t>(documents_per_row)] - offsets[first];
    if (row_tokens[i] <= 0) {
      throw_error<DataError>("{}: row {}: expected tokens, got {}", path(), begin + static_cast<int64_t>(i),
                             row_tokens[i]);
    }
  }
  return row_tokens;
}

TokenRows TokenShardReader::read(int64_t begin, int64_t end) const {
  check(begin >= 0 && begin <= end && end <= num_rows(), "rows to read lie within the shard");
  TokenRows rows;
  rows.offsets = read_offsets(begin, end);
  const int64_t first_token = rows.offsets.front();
  const auto num_tokens = static_cast<size_t>(rows.offsets.back() - first_token);
  for (int64_t& offset : rows.offsets) offset -= first_token;
  rows.tokens.resize(num_tokens);
  rows.loss_mask.resize(num_tokens);
  rows.row_ids.resize(static_cast<size_t>(end - begin));
  tokens_.read(first_token, std::span(rows.tokens));
  loss_mask_.read(first_token, std::span(rows.loss_mask));
  row_id_.read(begin, std::span(rows.row_ids));

  const auto where = [&](size_t token) {
    const auto after = std::upper_bound(rows.offsets.begin(), rows.offsets.end(), static_cast<int64_t>(token));
    const auto row = (after - rows.offsets.begin()) - 1;
    return fmt::format("{}: row {}: token {}", path(), begin + row,
                       static_cast<int64_t>(token) - rows.offsets[static_cast<size_t>(row)]);
  };
  for (size_t i = 0; i < num_tokens; ++i) {
    const int32_t id = rows.tokens[i];
    if (id < 0 || (vocab_size_ > 0 && id >= vocab_size_)) {
      const std::string limit = vocab_size_ > 0 ? std::to_string(vocab_size_) : "2^31";
      throw_error<DataError>("{}: expected an id in [0, {}), got {}; was it prepared for another model?", where(i),
                             limit, id);
    }
    if (rows.loss_mask[i] > 1) {
      throw_error<DataError>("{}: expected a loss_mask of 0 or 1, got {}", where(i), rows.loss_mask[i]);
    }
  }
  for (size_t i = 0; i < rows.row_ids.size(); ++i) {
    if (rows.row_ids[i] < 0 || (i > 0 && rows.row_ids[i] <= rows.row_ids[i - 1])) {
      throw_error<DataError>("{}: row {}: expected ascending row ids, got {}", path(), begin + static_cast<int64_t>(i),
                             rows.row_ids[i]);
    }
  }
  return rows;
}

}  // namespace plumb
