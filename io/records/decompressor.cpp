#include "io/records/decompressor.hpp"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

[[noreturn]] void throw_damaged(const std::string& path, int64_t offset, std::string_view format,
                                std::string_view reason) {
  throw_error<DataError>("{}: offset {}: expected {} data, got other bytes ({}); was it downloaded completely?", path,
                         offset, format, reason);
}

class GzipDecompressor : public Decompressor {
 public:
  explicit GzipDecompressor(std::string path) : path_(std::move(path)) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    check(::inflateInit2(&stream_, kGzipOnly) == Z_OK, "zlib can begin");
  }
  ~GzipDecompressor() override { ::inflateEnd(&stream_); }
  GzipDecompressor(const GzipDecompressor&) = delete;
  GzipDecompressor& operator=(const GzipDecompressor&) = delete;

  Progress advance(std::span<const char> in, std::span<char> out) override {
    if (is_at_end_) {
      const auto next = std::find_if(in.begin(), in.end(), [](char c) { return c != '\0'; });
      const auto num_zeros = static_cast<size_t>(next - in.begin());
      if (num_zeros > 0) return count({num_zeros, 0});
      if (in.empty()) return {};
      ::inflateReset(&stream_);
      is_at_end_ = false;
    }
    // zlib takes pointers that are not const, and writes to `out` alone
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = limit(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = limit(out.size());
    const int result = ::inflate(&stream_, Z_NO_FLUSH);
    const Progress progress = {limit(in.size()) - stream_.avail_in, limit(out.size()) - stream_.avail_out};
    if (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) {
      throw_damaged(path_, num_read_ + static_cast<int64_t>(progress.num_read), "gzip",
                    stream_.msg == nullptr ? "damaged" : stream_.msg);
    }
    is_at_end_ = result == Z_STREAM_END;
    return count(progress);
  }

  bool is_at_end() const override { return is_at_end_; }

 private:
  static uInt limit(size_t size) { return static_cast<uInt>(std::min<size_t>(size, std::numeric_limits<uInt>::max())); }
  Progress count(Progress progress) {
    num_read_ += static_cast<int64_t>(progress.num_read);
    return progress;
  }

  std::string path_;
  z_stream stream_ = {};
  bool is_at_end_ = false;
  int64_t num_read_ = 0;
};

class ZstdDecompressor : public Decompressor {
 public:
  explicit ZstdDecompressor(std::string path) : path_(std::move(path)), stream_(::ZSTD_createDStream()) {
    check(stream_ != nullptr, "zstd can begin");
  }

  Progress advance(std::span<const char> in, std::span<char> out) override {
    ZSTD_inBuffer input = {in.data(), in.size(), 0};
    ZSTD_outBuffer output = {out.data(), out.size(), 0};
    const size_t result = ::ZSTD_decompressStream(stream_.get(), &output, &input);
    if (::ZSTD_isError(result) != 0) {
      throw_damaged(path_, num_read_ + static_cast<int64_t>(input.pos), "zstd", ::ZSTD_getErrorName(result));
    }
    // without input the result says what a frame that has not begun needs
    if (input.pos > 0 || output.pos > 0) is_at_end_ = result == 0;
    num_read_ += static_cast<int64_t>(input.pos);
    return {input.pos, output.pos};
  }

  bool is_at_end() const override { return is_at_end_; }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ::ZSTD_freeDStream(stream); }
  };

  std::string path_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  bool is_at_end_ = false;
  int64_t num_read_ = 0;
};

}  // namespace

std::string_view name_of(Compression compression) {
  constexpr std::string_view kNames[] = {"", "gzip", "zstd"};
  return kNames[static_cast<size_t>(compression)];
}

Compression find_compression(std::string_view head) {
  if (head.starts_with("\x1F\x8B")) return Compression::kGzip;
  if (head.starts_with("\x28\xB5\x2F\xFD")) return Compression::kZstd;
  // a skippable frame, as parallel compressors put before the others
  const bool is_skippable = head.size() >= 4 && (head[0] & '\xF0') == '\x50' && head.substr(1, 3) == "\x2A\x4D\x18";
  return is_skippable ? Compression::kZstd : Compression::kNone;
}

std::unique_ptr<Decompressor> make_decompressor(Compression compression, const std::string& path) {
  check(compression != Compression::kNone, "there is something to decompress");
  if (compression == Compression::kGzip) return std::make_unique<GzipDecompressor>(path);
  return std::make_unique<ZstdDecompressor>(path);
}

}  // namespace plumb
