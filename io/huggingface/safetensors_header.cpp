#include "io/huggingface/safetensors_header.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr size_t kMaxTensors = 65'536, kMaxDimensions = 8, kMaxNameBytes = 512, kMaxQuotedChars = 120;

std::string known_dtypes() {
  std::string names;
  for (const DtypeInfo& info : kDtypes) names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

std::string shortened(std::string_view text) {
  return std::string(text.substr(0, kMaxQuotedChars)) + (text.size() > kMaxQuotedChars ? "..." : "");
}

/// Receives the parser's events, because a parsed tree of the header would lose duplicate keys. The header has one
/// form:
/// {"__metadata__": {string: string}, tensor: {"dtype": string, "shape": [n...], "data_offsets": [begin, end]}}
class HeaderEvents {
 public:
  explicit HeaderEvents(std::string_view where) : where_(where) {}

  SafetensorsHeader header;

  bool start_object(size_t) {
    if (level_ == Level::kOutside) return enter(Level::kHeader);
    if (level_ != Level::kHeader) fail("an object");
    if (key_ == "__metadata__") return enter(Level::kMetadata);
    if (header.entries.size() == kMaxTensors) fail(fmt::format("more than {} tensors", kMaxTensors));
    header.entries.emplace_back().name = key_;
    dtype_.reset();
    shape_.reset();
    offsets_.reset();
    return enter(Level::kTensor);
  }
  bool end_object() {
    if (level_ == Level::kTensor) finish_tensor();
    level_ = level_ == Level::kHeader ? Level::kOutside : Level::kHeader;
    return true;
  }
  bool key(std::string& name) {
    key_ = name;
    if (level_ == Level::kHeader) check_name(name);
    if (level_ == Level::kMetadata && header.metadata.contains(name)) fail("a key twice");
    return true;
  }
  bool string(std::string& value) {
    if (level_ == Level::kMetadata) {
      header.metadata[key_] = value;
      return true;
    }
    if (level_ != Level::kTensor || key_ != "dtype") fail("a string");
    if (dtype_) fail("dtype twice");
    for (const DtypeInfo& info : kDtypes)
      if (info.name == value) dtype_ = info.dtype;
    if (!dtype_)
      throw_error<DataError>("{}: tensor {}: expected dtype one of {}, got {}", where_, tensor_name(), known_dtypes(),
                             shortened(value));
    return true;
  }
  bool start_array(size_t) {
    const bool is_shape = key_ == "shape";
    if (level_ != Level::kTensor || (!is_shape && key_ != "data_offsets")) fail("an array");
    std::optional<std::vector<int64_t>>& target = is_shape ? shape_ : offsets_;
    if (target) fail(key_ + " twice");
    target.emplace();
    max_numbers_ = is_shape ? kMaxDimensions : 2;
    level_ = Level::kNumbers;
    return true;
  }
  bool end_array() { return enter(Level::kTensor); }
  bool number_unsigned(uint64_t value) {
    if (level_ != Level::kNumbers) fail("a number");
    if (value > static_cast<uint64_t>(INT64_MAX)) fail(fmt::format("{} of {}", key_, value));
    std::vector<int64_t>& numbers = key_ == "shape" ? *shape_ : *offsets_;
    if (numbers.size() == max_numbers_) fail(fmt::format("{} of more than {} numbers", key_, max_numbers_));
    numbers.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool number_integer(int64_t value) { fail(fmt::format("the negative number {}", value)); }
  bool number_float(double, const std::string& text) { fail("the fraction " + shortened(text)); }
  bool null() { fail("null"); }
  bool boolean(bool) { fail("a boolean"); }
  bool binary(json::binary_t&) { fail("binary data"); }
  bool parse_error(size_t position, const std::string&, const json::exception& error) {
    throw_error<DataError>("{}: header byte {}: expected JSON, got: {}", where_, position, shortened(error.what()));
  }

 private:
  enum class Level { kOutside, kHeader, kMetadata, kTensor, kNumbers };

  bool enter(Level level) {
    level_ = level;
    return true;
  }
  void check_name(const std::string& name) {
    // names appear in messages, so they must not contain terminal control characters
    const bool is_printable =
        std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (name.size() > kMaxNameBytes || !is_printable)
      throw_error<DataError>("{}: tensor {}: expected a name of at most {} printable bytes, got {} bytes", where_,
                             header.entries.size(), kMaxNameBytes, name.size());
    if (!names_.insert(name).second)
      throw_error<DataError>("{}: tensor {}: expected each name once, got it twice", where_, name);
  }
  const std::string& tensor_name() const { return header.entries.back().name; }

  [[noreturn]] void fail(std::string_view got) const {
    switch (level_) {
      case Level::kOutside:
        throw_error<DataError>("{}: header: expected a JSON object, got {}", where_, got);
      case Level::kHeader:
        throw_error<DataError>("{}: {}: expected the object that describes a tensor, got {}", where_, shortened(key_),
                               got);
      case Level::kMetadata:
        throw_error<DataError>("{}: __metadata__: {}: expected one string, got {}", where_, shortened(key_), got);
      default:
        throw_error<DataError>(
            "{}: tensor {}: {}: expected dtype (a string), shape and data_offsets (arrays of whole numbers) once each, "
            "got {}",
            where_, tensor_name(), shortened(key_), got);
    }
  }

  void finish_tensor() {
    SafetensorsEntry& entry = header.entries.back();
    const auto broken = [&](const std::string& expected, const std::string& got) {
      throw_error<DataError>("{}: tensor {}: expected {}, got {}", where_, entry.name, expected, got);
    };
    if (!dtype_ || !shape_ || !offsets_)
      broken("dtype, shape and data_offsets", !dtype_ ? "no dtype" : !shape_ ? "no shape" : "no data_offsets");
    if (offsets_->size() != 2) broken("data_offsets of two numbers", fmt::format("{}", offsets_->size()));
    const int64_t begin = (*offsets_)[0], end = (*offsets_)[1];
    if (begin > end) broken("ascending data_offsets", quote_shape(*offsets_));
    entry.dtype = *dtype_;
    entry.shape = *shape_;
    entry.offset_bytes = begin;
    int64_t num_bytes = size_bytes(entry.dtype);
    // a zero anywhere makes the product zero, even if the sizes before it would overflow
    const bool is_empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
    if (is_empty) num_bytes = 0;
    for (int64_t size : entry.shape)
      if (!is_empty && __builtin_mul_overflow(num_bytes, size, &num_bytes))
        broken("a shape whose bytes can be counted in 63 bits", quote_shape(entry.shape));
    if (num_bytes != end - begin)
      broken(
          fmt::format("{} bytes for {} of shape {}", num_bytes, dtype_info(entry.dtype).name, quote_shape(entry.shape)),
          fmt::format("data_offsets {} of {} bytes", quote_shape(*offsets_), end - begin));
    entry.num_elements = num_bytes / size_bytes(entry.dtype);
  }

  std::string_view where_;
  Level level_ = Level::kOutside;
  std::string key_;
  std::set<std::string> names_;
  std::optional<Dtype> dtype_;
  std::optional<std::vector<int64_t>> shape_, offsets_;
  size_t max_numbers_ = 0;
};

/// The tensors, sorted by offset, must be contiguous from 0 to the end of the buffer.
void check_coverage(const std::vector<SafetensorsEntry>& entries, int64_t buffer_bytes, std::string_view where) {
  int64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset_bytes != end)
      throw_error<DataError>(
          "{}: tensor {}: expected data_offsets to start at {}, where the tensor before ends, got {}; {}", where,
          entry.name, end, entry.offset_bytes, entry.offset_bytes < end ? "they overlap" : "there is a hole");
    end += entry.num_bytes();
    if (end > buffer_bytes)
      throw_error<DataError>("{}: tensor {}: expected data_offsets up to {}, got {}; is the file truncated?", where,
                             entry.name, buffer_bytes, end);
  }
  if (end != buffer_bytes)
    throw_error<DataError>("{}: expected {} bytes after the header, as its tensors need, got {}", where, end,
                           buffer_bytes);
}

}  // namespace

std::string quote_shape(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

SafetensorsHeader parse_safetensors_header(std::string_view text, int64_t buffer_bytes, std::string_view where) {
  if (!text.starts_with('{'))
    throw_error<DataError>("{}: header: expected a JSON object that starts with '{{', got {} bytes that do not", where,
                           text.size());
  // the parser treats NUL as the end and would ignore the rest
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    throw_error<DataError>("{}: header byte {}: expected JSON, got a NUL byte", where, nul);
  HeaderEvents events(where);
  try {
    json::sax_parse(text, &events);
  } catch (const json::exception& error) {
    throw_error<DataError>("{}: header: expected JSON, got: {}", where, shortened(error.what()));
  }
  SafetensorsHeader header = std::move(events.header);
  std::sort(header.entries.begin(), header.entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.offset_bytes, a.num_bytes()) < std::pair(b.offset_bytes, b.num_bytes());
  });
  check_coverage(header.entries, buffer_bytes, where);
  return header;
}

}  // namespace plumb
