#include "apps/commands/print_rows.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "lib/text/show_tokens.hpp"

namespace plumb {

void print_row(const Tokenizer& tokenizer, const TokenRows& row, const std::string& heading) {
  const bool is_pair = row.documents_per_row == 2;
  for (int64_t document = 0; document < row.num_documents(); ++document) {
    const auto begin = static_cast<size_t>(row.offsets[document]);
    const auto size = static_cast<size_t>(row.offsets[document + 1]) - begin;
    const auto mask = std::span(row.loss_mask).subspan(begin, size);
    const std::string margin =
        row.margins.empty() || document > 0 ? "" : fmt::format(", margin {}", row.margins.front());
    fmt::print("--- {}{}: {} tokens, {} trained{}\n", heading,
               is_pair ? (document == 0 ? ", chosen" : ", rejected") : "", size,
               std::count(mask.begin(), mask.end(), uint8_t{1}), margin);
    fmt::print("{}\n",
               show_tokens(tokenizer, std::span(row.tokens).subspan(begin, size), mask, isatty(STDOUT_FILENO) != 0));
  }
}

std::string row_as_ids(const TokenRows& row) {
  const std::span<const int32_t> tokens(row.tokens);
  if (row.documents_per_row == 1) {
    std::vector<int32_t> labels(tokens.begin(), tokens.end());
    for (size_t i = 0; i < labels.size(); ++i)
      if (row.loss_mask[i] == 0) labels[i] = -100;
    return fmt::format(R"({{"input_ids": {}, "labels": {}}})", tokens, labels);
  }
  const int64_t prompt = row.prompt_lengths.front(), second = row.offsets[1];
  const auto part = [&](int64_t begin, int64_t end) {
    return tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  };
  const std::string margin = row.margins.empty() ? "" : fmt::format(R"(, "margin": {})", row.margins.front());
  return fmt::format(R"({{"prompt_ids": {}, "chosen_ids": {}, "rejected_ids": {}{}}})", part(0, prompt),
                     part(prompt, second), part(second + prompt, row.offsets[2]), margin);
}

}  // namespace plumb
