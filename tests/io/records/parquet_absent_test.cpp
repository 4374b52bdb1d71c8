// Without Apache Arrow, Parquet is refused with what to install; parquet_test.cpp is the test with it.
#include <gtest/gtest.h>

#include "io/records/parquet.hpp"
#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

TEST(ParquetAbsent, SaysWhatToInstall) {
  const TemporaryDirectory directory;
  directory.write("rows.parquet", "PAR1 and so on PAR1");
  const auto message = message_of<UsageError>([&] { ParquetFile file(directory / "rows.parquet"); });
  expect_contains(message, {"rows.parquet", "Apache Arrow", "./dev setup --parquet", "JSON Lines"});
  EXPECT_EQ(message_of<UsageError>([&] { index_records(directory / "rows.parquet"); }), message);
}

}  // namespace
}  // namespace plumb
