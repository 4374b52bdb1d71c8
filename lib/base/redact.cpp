#include "lib/base/redact.hpp"

#include <algorithm>
#include <array>

namespace plumb {

namespace {

constexpr std::string_view kHidden = "***";
constexpr std::string_view kEnds = " \t\r\n\"'<>,;)";
// of Hugging Face, OpenAI and the like, GitHub, GitLab, Slack, AWS
constexpr std::array<std::string_view, 8> kTokenBegins = {"hf_",         "sk-",    "ghp_",  "gho_",
                                                          "github_pat_", "glpat-", "xoxb-", "AKIA"};
constexpr std::array<std::string_view, 5> kSecretNames = {"TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD"};
constexpr size_t kMinTokenBytes = 16;

bool is_alphanumeric(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
bool is_of_name(char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

/// Bytes from `at` on that belong to one word.
size_t word_bytes(std::string_view text, size_t at) {
  return std::min(text.find_first_of(kEnds, at), text.size()) - at;
}

struct Secret {
  size_t shown_bytes = 0;
  size_t hidden_bytes = 0;
};

/// The value after a `=`, with or without quotes.
Secret hidden_value(std::string_view text, size_t at) {
  const size_t quote_bytes = at < text.size() && (text[at] == '"' || text[at] == '\'') ? 1 : 0;
  return {1 + quote_bytes, word_bytes(text, at + quote_bytes)};
}

Secret find_in_url(std::string_view text, size_t at) {
  constexpr std::string_view kMark = "://";
  const std::string_view url = text.substr(at, word_bytes(text, at));
  const std::string_view authority = url.substr(0, url.find_first_of("/?#", kMark.size()));
  const size_t end = authority.rfind('@');
  return end == std::string_view::npos ? Secret{} : Secret{kMark.size(), end - kMark.size()};
}

/// A secret that starts at `at`: bytes to show, then bytes to hide; none where there is none.
Secret find_secret(std::string_view text, size_t at, bool is_in_url) {
  const std::string_view rest = text.substr(at);
  if (rest.starts_with("://")) return find_in_url(text, at);
  if (is_in_url && rest.front() == '?') return {1, word_bytes(text, at) - 1};
  constexpr std::string_view kBearer = "Bearer ";
  if (rest.starts_with(kBearer)) return {kBearer.size(), word_bytes(text, at + kBearer.size())};
  if (rest.front() == '=') {
    size_t begin = at;
    while (begin > 0 && is_of_name(text[begin - 1])) --begin;
    const std::string_view name = text.substr(begin, at - begin);
    if (std::any_of(kSecretNames.begin(), kSecretNames.end(), [&](auto secret) { return name.ends_with(secret); }))
      return hidden_value(text, at + 1);
  }
  if (at > 0 && is_alphanumeric(text[at - 1])) return {};
  for (const std::string_view begin : kTokenBegins) {
    if (!rest.starts_with(begin)) continue;
    const auto end = std::find_if_not(rest.begin() + static_cast<std::ptrdiff_t>(begin.size()), rest.end(),
                                      [](char c) { return is_alphanumeric(c) || c == '_' || c == '-'; });
    const auto size = static_cast<size_t>(end - rest.begin());
    const bool has_digit = std::any_of(rest.begin(), end, [](char c) { return c >= '0' && c <= '9'; });
    if (size >= begin.size() + kMinTokenBytes && has_digit) return {begin.size(), size - begin.size()};
  }
  return {};
}

}  // namespace

std::string redact_secrets(std::string_view text) {
  std::string shown;
  size_t url_end = 0;
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with("://")) url_end = at + word_bytes(text, at);
    const Secret secret = find_secret(text, at, at < url_end);
    if (secret.hidden_bytes == 0) {
      shown += text[at++];
      continue;
    }
    shown.append(text.substr(at, secret.shown_bytes)).append(kHidden);
    at += secret.shown_bytes + secret.hidden_bytes;
  }
  return shown;
}

}  // namespace plumb
