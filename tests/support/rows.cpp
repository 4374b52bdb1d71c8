#include "tests/support/rows.hpp"

#include <nlohmann/json.hpp>

namespace plumb::test {

namespace {

std::string prompt(int i) { return "What is " + std::to_string(i * i) + " and one?"; }
std::string answer(int i) { return " It is " + std::to_string(i * i + 1) + std::string(i % 5, '!'); }

}  // namespace

std::string rows(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += nlohmann::json{{"prompt", prompt(i)}, {"completion", answer(i)}}.dump() + "\n";
  return text;
}

std::string pairs(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const std::string wrong = " " + std::to_string(7 * i) + std::string(i % 3, '?');
    text += nlohmann::json{{"prompt", prompt(i)}, {"chosen", answer(i)}, {"rejected", wrong}}.dump() + "\n";
  }
  return text;
}

}  // namespace plumb::test
