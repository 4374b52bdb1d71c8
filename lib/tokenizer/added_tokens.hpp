// Tokens that are cut out of the text before the model tokenizes it: control tokens, and tokens that users added to a
// vocabulary.
// Source: huggingface/tokenizers, AddedVocabulary.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/marked_text.hpp"

namespace plumb {

struct AddedToken {
  std::string content;
  bool is_single_word = false;  // matches only if no word character is adjacent
  bool strips_left = false;     // consumes the white space before it
  bool strips_right = false;
  bool is_normalized = false;  // its normalized content is matched in normalized text; otherwise in the raw text
  bool is_special = false;
  bool was_normalized = false;  // before it was named again: it decodes to its normalized content
  bool operator==(const AddedToken&) const = default;
};

/// Finds tokens of a set in text: the leftmost match, and of those the longest.
class AddedTokenMatcher {
 public:
  struct Part {
    ByteRange range;
    int32_t id = -1;  // -1: text between tokens
  };

  /// Adds a token that is matched by `spelling`. Throws DataError if it is too long.
  void add(std::string_view spelling, int32_t id, const AddedToken& token);
  bool has_special() const { return has_special_; }

  /// Splits `text` into parts. If `user_flags` is not null, special tokens that touch a byte flagged 1 do not match.
  std::vector<Part> split(std::string_view text, const std::string* user_flags) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, int32_t>> children;
    int32_t token = -1;  // index into tokens_
  };
  struct Entry {
    int32_t id;
    AddedToken token;
  };
  struct Found {
    size_t end = 0;
    const Entry* entry = nullptr;  // null if no token begins here
  };
  Found longest_at(std::string_view text, size_t at, const std::string* user_flags) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);  // a trie; the root is first
  std::vector<int32_t> roots_ = std::vector<int32_t>(256, -1);
  std::vector<Entry> tokens_;
  bool has_special_ = false;
};

/// Added tokens by id and by content.
class AddedTokens {
 public:
  /// Replaces the token of that id. No other id may have its content.
  void put(int32_t id, AddedToken token);
  /// Null if there is none.
  const AddedToken* find(int32_t id) const;
  /// -1 if there is none.
  int32_t id_of(std::string_view content) const;
  const std::map<int32_t, AddedToken>& by_id() const { return by_id_; }
  bool operator==(const AddedTokens& other) const { return by_id_ == other.by_id_; }

 private:
  std::map<int32_t, AddedToken> by_id_;
  std::map<std::string, int32_t, std::less<>> ids_;
};

}  // namespace plumb
