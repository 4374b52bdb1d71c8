#include "apps/commands/print_rows.hpp"

#include <fmt/color.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <span>

namespace plumb {

namespace {

void print_tokens(const Tokenizer& tokenizer, std::span<const int32_t> tokens, std::span<const uint8_t> loss_mask) {
  const bool has_color = isatty(STDOUT_FILENO) != 0;
  for (size_t begin = 0; begin < tokens.size();) {
    size_t end = begin;
    while (end < tokens.size() && loss_mask[end] == loss_mask[begin]) ++end;
    const std::string text = tokenizer.decode(tokens.subspan(begin, end - begin));
    if (!loss_mask[begin]) {
      fmt::print("{}", text);
    } else if (has_color) {
      fmt::print(fg(fmt::terminal_color::green), "{}", text);
    } else {
      fmt::print("[[{}]]", text);
    }
    begin = end;
  }
  fmt::print("\n");
}

}  // namespace

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
    print_tokens(tokenizer, std::span(row.tokens).subspan(begin, size), mask);
  }
}

}  // namespace plumb
