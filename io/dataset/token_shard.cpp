#include "io/dataset/token_shard.hpp"

#include <algorithm>
#include <cmath>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

// A checksum covers a chunk, so reading one row reads at least one chunk: a few rows long.
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
  return file;
}

ShardFormat read_format(const Hdf5File& file) {
  ShardFormat format;
  format.kind = file.text_attribute("kind");
  if (format.kind != kSftKind && format.kind != kPairsKind) {
    throw_error<DataError>("{}: expected rows of kind {} or {}, got {}", file.path(), kSftKind, kPairsKind,
                           format.kind);
  }
  if (format.kind == kPairsKind) {
    const int64_t has_margins = file.integer_attribute("has_margins");
    if (has_margins != 0 && has_margins != 1) {
      throw_error<DataError>("{}: has_margins: expected 0 or 1, got {}", file.path(), has_margins);
    }
    format.has_margins = has_margins == 1;
  }
  return format;
}

}  // namespace

void TokenRows::add(std::span<const int32_t> row_tokens, std::span<const uint8_t> row_mask, int64_t row_id) {
  check(row_tokens.size() == row_mask.size(), "a row has a mask for every token");
  tokens.insert(tokens.end(), row_tokens.begin(), row_tokens.end());
  loss_mask.insert(loss_mask.end(), row_mask.begin(), row_mask.end());
  offsets.push_back(num_tokens());
  row_ids.push_back(row_id);
}

void TokenRows::add_pair(std::span<const int32_t> chosen, std::span<const int32_t> rejected, int64_t prompt_length,
                         std::optional<double> margin, int64_t row_id) {
  check(margin.has_value() == (margins.size() == row_ids.size()) || row_ids.empty(), "all pairs have a margin or none");
  documents_per_row = 2;
  for (const std::span<const int32_t> text : {chosen, rejected}) {
    check(prompt_length >= 0 && prompt_length < std::ssize(text), "a text continues after its prompt");
    tokens.insert(tokens.end(), text.begin(), text.end());
    loss_mask.insert(loss_mask.end(), prompt_length, 0);
    loss_mask.resize(tokens.size(), 1);
    offsets.push_back(num_tokens());
  }
  row_ids.push_back(row_id);
  prompt_lengths.push_back(prompt_length);
  if (margin) margins.push_back(*margin);
}

void TokenRows::append(const TokenRows& later) {
  if (later.row_ids.empty()) return;
  if (row_ids.empty()) documents_per_row = later.documents_per_row;
  check(documents_per_row == later.documents_per_row, "rows have the kind of those before them");
  const int64_t first_token = num_tokens();
  tokens.insert(tokens.end(), later.tokens.begin(), later.tokens.end());
  loss_mask.insert(loss_mask.end(), later.loss_mask.begin(), later.loss_mask.end());
  for (size_t i = 1; i < later.offsets.size(); ++i) offsets.push_back(first_token + later.offsets[i]);
  row_ids.insert(row_ids.end(), later.row_ids.begin(), later.row_ids.end());
  prompt_lengths.insert(prompt_lengths.end(), later.prompt_lengths.begin(), later.prompt_lengths.end());
  margins.insert(margins.end(), later.margins.begin(), later.margins.end());
}

TokenShardWriter::TokenShardWriter(const std::string& path, const ShardFormat& format)
    : format_(format),
      file_(path),
      tokens_(file_.file().create_dataset<int32_t>("tokens", {kTokensPerChunk, -1})),
      loss_mask_(file_.file().create_dataset<uint8_t>("loss_mask", {kTokensPerChunk, 0})),
      offsets_(create_row_array(file_.file(), "offsets")),
      row_id_(create_row_array(file_.file(), "row_id")) {
  Hdf5File& file = file_.file();
  file.set_attribute("format_version", kTokenShardVersion);
  file.set_attribute("kind", format.kind);
  check(format.kind == kSftKind || format.kind == kPairsKind, "shards hold rows to fine-tune on, or pairs");
  if (format.kind == kPairsKind) {
    file.set_attribute("has_margins", int64_t{format.has_margins});
    prompt_length_ = create_row_array(file, "prompt_length");
  }
  if (format.has_margins) margin_ = file.create_dataset<double>("margin", {kRowsPerChunk, 0});
  const int64_t zero = 0;
  offsets_.append(std::span(&zero, 1));
}

void TokenShardWriter::append(std::span<const int32_t> tokens, std::span<const uint8_t> loss_mask, int64_t row_id) {
  check(format_.kind == kSftKind && !tokens.empty(), "a row to fine-tune on has tokens");
  pending_.add(tokens, loss_mask, row_id);
  count_row(row_id);
}

void TokenShardWriter::append_pair(std::span<const int32_t> chosen, std::span<const int32_t> rejected,
                                   int64_t prompt_length, std::optional<double> margin, int64_t row_id) {
  check(format_.kind == kPairsKind && margin.has_value() == format_.has_margins, "a pair has what its shard holds");
  pending_.add_pair(chosen, rejected, prompt_length, margin, row_id);
  count_row(row_id);
}

void TokenShardWriter::count_row(int64_t row_id) {
  check(row_id > last_row_id_, "row ids ascend");
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
  if (prompt_length_) prompt_length_->append(std::span<const int64_t>(pending_.prompt_lengths));
  if (margin_) margin_->append(std::span<const double>(pending_.margins));
  num_tokens_ += pending_.num_tokens();
  pending_.clear();
}

void TokenShardWriter::finish() {
  flush();
  for (Hdf5Dataset* dataset : {&tokens_, &loss_mask_, &offsets_, &row_id_}) dataset->close();
  for (std::optional<Hdf5Dataset>* dataset : {&prompt_length_, &margin_}) {
    if (*dataset) (*dataset)->close();
  }
  file_.publish();
}

TokenShardReader::TokenShardReader(const std::string& path, int64_t vocab_size)
    : file_(open_shard(path)),
      format_(read_format(file_)),
      vocab_size_(vocab_size),
      tokens_(file_.open_dataset<int32_t>("tokens")),
      loss_mask_(file_.open_dataset<uint8_t>("loss_mask")),
      offsets_(file_.open_dataset<int64_t>("offsets")),
      row_id_(file_.open_dataset<int64_t>("row_id")) {
  if (loss_mask_.size() != tokens_.size()) {
    throw_error<DataError>("{}: expected a loss_mask for each of {} tokens, got {}", path, tokens_.size(),
                           loss_mask_.size());
  }
  const int64_t num_offsets = format_.documents_per_row() * row_id_.size() + 1;
  if (offsets_.size() != num_offsets) {
    throw_error<DataError>("{}: expected {} offsets for {} rows, got {}", path, num_offsets, row_id_.size(),
                           offsets_.size());
  }
  if (format_.kind == kPairsKind) prompt_length_ = file_.open_dataset<int64_t>("prompt_length");
  if (format_.has_margins) margin_ = file_.open_dataset<double>("margin");
  for (const std::optional<Hdf5Dataset>* dataset : {&prompt_length_, &margin_}) {
    if (!*dataset || (*dataset)->size() == num_rows()) continue;
    throw_error<DataError>("{}: expected a {} for each of {} rows, got {}", path, (*dataset)->name(), num_rows(),
                           (*dataset)->size());
  }
  int64_t first = 0, last = 0;
  offsets_.read(0, std::span(&first, 1));
  offsets_.read(num_offsets - 1, std::span(&last, 1));
  if (first != 0 || last != tokens_.size()) {
    throw_error<DataError>("{}: expected offsets from 0 to {}, got {} to {}", path, tokens_.size(), first, last);
  }
}

std::vector<int64_t> TokenShardReader::read_offsets(int64_t begin, int64_t end) const {
  const int64_t documents_per_row = format_.documents_per_row();
  std::vector<int64_t> offsets(documents_per_row * (end - begin) + 1);
  offsets_.read(documents_per_row * begin, std::span(offsets));
  for (size_t i = 0; i < offsets.size(); ++i) {
    const int64_t least = i == 0 ? 0 : offsets[i - 1] + 1;  // a document has tokens
    if (offsets[i] < least || offsets[i] > tokens_.size()) {
      throw_error<DataError>("{}: row {}: expected an offset in [{}, {}], got {}", path(),
                             begin + static_cast<int64_t>(i) / documents_per_row, least, tokens_.size(), offsets[i]);
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
  std::vector<int64_t> row_tokens(end - begin);
  if (row_tokens.empty()) return row_tokens;
  const int64_t documents_per_row = (offsets_.size() - 1) / num_rows();
  std::vector<int64_t> offsets((end - begin) * documents_per_row + 1);
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
  rows.documents_per_row = format_.documents_per_row();
  rows.offsets = read_offsets(begin, end);
  const int64_t first_token = rows.offsets.front();
  const auto num_tokens = static_cast<size_t>(rows.offsets.back() - first_token);
  for (int64_t& offset : rows.offsets) offset -= first_token;
  rows.tokens.resize(num_tokens);
  rows.loss_mask.resize(num_tokens);
  rows.row_ids.resize(end - begin);
  tokens_.read(first_token, std::span(rows.tokens));
  loss_mask_.read(first_token, std::span(rows.loss_mask));
  row_id_.read(begin, std::span(rows.row_ids));

  const auto where = [&](size_t token) {
    const auto after = std::upper_bound(rows.offsets.begin(), rows.offsets.end(), static_cast<int64_t>(token));
    const auto document = (after - rows.offsets.begin()) - 1;
    return fmt::format("{}: row {}: {}token {}", path(), begin + document / rows.documents_per_row,
                       rows.documents_per_row == 1 ? "" : (document % 2 == 0 ? "chosen: " : "rejected: "),
                       static_cast<int64_t>(token) - rows.offsets[document]);
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
  if (format_.kind == kPairsKind) read_pairs(begin, rows);
  return rows;
}

/// Checks what pairs have besides their documents: prompt lengths, margins and loss masks.
void TokenShardReader::read_pairs(int64_t begin, TokenRows& rows) const {
  rows.prompt_lengths.resize(rows.row_ids.size());
  prompt_length_->read(begin, std::span(rows.prompt_lengths));
  if (margin_) {
    rows.margins.resize(rows.row_ids.size());
    margin_->read(begin, std::span(rows.margins));
  }
  for (size_t i = 0; i < rows.row_ids.size(); ++i) {
    const auto where = [&] { return fmt::format("{}: row {}", path(), begin + static_cast<int64_t>(i)); };
    const int64_t chosen = rows.offsets[2 * i], rejected = rows.offsets[2 * i + 1], end = rows.offsets[2 * i + 2];
    const int64_t limit = std::min(rejected - chosen, end - rejected), prompt_length = rows.prompt_lengths[i];
    if (prompt_length < 0 || prompt_length >= limit) {
      throw_error<DataError>("{}: expected a prompt_length in [0, {}), got {}", where(), limit, prompt_length);
    }
    if (!std::equal(rows.tokens.begin() + chosen, rows.tokens.begin() + chosen + prompt_length,
                    rows.tokens.begin() + rejected)) {
      throw_error<DataError>("{}: expected the same prompt of {} tokens in both texts, got others", where(),
                             prompt_length);
    }
    for (int64_t token = chosen; token < end; ++token) {
      const bool is_trained = token - (token < rejected ? chosen : rejected) >= prompt_length;
      if (rows.loss_mask[token] == uint8_t{is_trained}) continue;
      throw_error<DataError>("{}: expected a loss_mask of all tokens after the prompt, got another", where());
    }
    if (margin_ && !std::isfinite(rows.margins[i])) {
      throw_error<DataError>("{}: expected a finite margin, got {}", where(), rows.margins[i]);
    }
  }
}

}  // namespace plumb
