#include "io/records/parquet.hpp"
#include "lib/base/check.hpp"

namespace plumb {

struct ParquetFile::State {};

ParquetFile::ParquetFile(const std::string& path) {
  throw_error<UsageError>(
      "{}: expected a plumb that reads Parquet, got one built without Apache Arrow; build it again after ./dev setup "
      "--parquet (or with PLUMB_ARROW naming an Arrow), or write the rows as JSON Lines: python3 -c 'import pandas; "
      "pandas.read_parquet(\"{}\").to_json(\"rows.jsonl\", orient=\"records\", lines=True)'",
      path, path);
}
ParquetFile::~ParquetFile() = default;
ParquetFile::ParquetFile(ParquetFile&& other) noexcept = default;

int64_t ParquetFile::num_rows() const { return 0; }
int64_t ParquetFile::size_bytes() const { return 0; }
void ParquetFile::seek(int64_t /*row*/) {}
nlohmann::ordered_json ParquetFile::next() { return {}; }

}  // namespace plumb
