#include "apps/options/words.hpp"

#include <utility>

namespace plumb {

std::string join_words(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (&word != &words.front()) text += ' ';
    if (!word.empty() && word.front() != '"' && word.find_first_of(" \t") == std::string::npos) {
      text += word;
      continue;
    }
    text += '"';
    for (const char c : word) text += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
    text += '"';
  }
  return text;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  for (size_t i = text.find_first_not_of(" \t"); i < text.size(); i = text.find_first_not_of(" \t", i)) {
    std::string word;
    const bool is_quoted = text[i] == '"';
    for (i += is_quoted ? 1 : 0; i < text.size(); ++i) {
      if (is_quoted ? text[i] == '"' : text[i] == ' ' || text[i] == '\t') break;
      if (is_quoted && text[i] == '\\' && i + 1 < text.size()) ++i;
      word += text[i];
    }
    if (is_quoted && i < text.size()) ++i;  // after the closing quote
    words.push_back(std::move(word));
  }
  return words;
}

}  // namespace plumb
