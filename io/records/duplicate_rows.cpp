#include "io/records/duplicate_rows.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <tuple>

namespace plumb {

RowFingerprint fingerprint_of(const PairText& pair, int64_t row) {
  std::array<XXH128_hash_t, 3> parts;
  const std::array<const std::string*, 3> texts = {&pair.prompt.text, &pair.chosen.text, &pair.rejected.text};
  std::transform(texts.begin(), texts.end(), parts.begin(),
                 [](const std::string* text) { return XXH3_128bits(text->data(), text->size()); });
  const XXH128_hash_t hash = XXH3_128bits(parts.data(), sizeof parts);
  return {hash.high64, hash.low64, row};
}

std::vector<int64_t> find_duplicates(std::vector<RowFingerprint> prints) {
  const auto order = [](const RowFingerprint& print) { return std::tuple(print.high, print.low, print.row); };
  std::sort(prints.begin(), prints.end(),
            [&](const RowFingerprint& a, const RowFingerprint& b) { return order(a) < order(b); });
  std::vector<int64_t> rows;
  for (size_t i = 1; i < prints.size(); ++i) {
    if (prints[i].high == prints[i - 1].high && prints[i].low == prints[i - 1].low) rows.push_back(prints[i].row);
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace plumb
