#include "io/file/sha256.hpp"

#include <gtest/gtest.h>

#include <string_view>

#include "lib/base/check.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

std::string digest(std::string_view text, size_t piece_bytes) {
  Sha256 sum;
  for (size_t i = 0; i < text.size(); i += piece_bytes)
    sum.update(std::as_bytes(std::span(text.substr(i, piece_bytes))));
  return sum.hex_digest();
}

// FIPS 180-4's own examples, and one whose padding needs a block of its own.
TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(digest("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest("abc", 8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 99),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(digest(std::string(1'000'000, 'a'), 1000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesDoNotMatter) {
  for (const size_t size : {55u, 56u, 63u, 64u, 65u, 119u, 120u, 128u, 1000u}) {
    const std::string text(size, 'x');
    const std::string whole = digest(text, size);
    for (const size_t piece_bytes : {1u, 7u, 63u, 64u, 65u, 129u}) EXPECT_EQ(digest(text, piece_bytes), whole) << size;
  }
}

TEST(Sha256, OfAFileIsThatOfItsBytes) {
  const TemporaryDirectory directory;
  const std::string text(3'000'001, 'q');
  EXPECT_EQ(sha256_of_file(directory.write("a", text)), digest(text, text.size()));
  EXPECT_THROW(sha256_of_file(directory / "missing"), InputOutputError);
}

}  // namespace
}  // namespace plumb
