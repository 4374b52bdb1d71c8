// Tokens that are cut out of text before the model sees it: control tokens and what users added to a vocabulary.
// Source: huggingface/tokenizers, AddedVocabulary.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct AddedToken {
  std::string content;
  bool is_single_word = false;  // matches only where no word character touches it
  bool strips_left = false;     // takes the white space before it along
  bool strips_right = false;
  bool is_normalized = false;  // its normalized content is sought in normalized text, else in the raw text
  bool is_special = false;
};

/// Finds any of a set of tokens, the leftmost and of those the longest.
class AddedTokenMatcher {
 public:
  struct Part {
    ByteRange range;
    int32_t id = -1;  // -1 is text between tokens
  };

  /// `spelling` is what is sought. Throws DataError if it is too long.
  void add(std::string_view spelling, int32_t id, const AddedToken& token);
  bool has_special() const { return has_special_; }

  /// `text` in parts. Where `user_flags` is not null, special tokens that touch a byte flagged 1 are not seen.
  std::vector<Part> split(std::string_view text, const std::string* user_flags) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, int32_t>> children;
    int32_t token = -1;  // in tokens_
  };
  struct Entry {
    int32_t id;
    AddedToken token;
  };
  struct Found {
    size_t end = 0;
    const Entry* entry = nullptr;  // null where none begins here
  };
  Found longest_at(std::string_view text, size_t at, const std::string* user_flags) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);  // a trie, its root first
  std::vector<int32_t> roots_ = std::vector<int32_t>(256, -1);
  std::vector<Entry> tokens_;
  bool has_special_ = false;
};

/// Added tokens by id and by content.
class AddedTokens {
 public:
  /// Replaces the token of that id. Its content must not belong to another id.
  void put(int32_t id, AddedToken token);
  /// Null where there is none.
  const AddedToken* find(int32_t id) const;
  /// -1 where there is none.
  int32_t id_of(std::string_view content) const;
  const std::map<int32_t, AddedToken>& by_id() const { return by_id_; }

 private:
  std::map<int32_t, AddedToken> by_id_;
  std::map<std::string, int32_t, std::less<>> ids_;
};

}  // namespace plumb
