// Converts text to token ids and back, identically to the Hugging Face `tokenizers` library for BPE models: byte-level
// (GPT-2, Llama 3, Qwen) and SentencePiece style with byte fallback (Llama 2, Mistral).
// Source: the tokenizer.json format of huggingface/tokenizers; sentencepiece_model.proto of google/sentencepiece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/marked_text.hpp"
#include "lib/tokenizer/tokenizer_behavior.hpp"
#include "lib/tokenizer/tokenizer_config.hpp"

namespace plumb {

class Tokenizer {
 public:
  /// Reads the files of a model directory. Messages use their names. Throws DataError for malformed, contradictory or
  /// unsupported contents, listing what is supported.
  static Tokenizer from_texts(const TokenizerTexts& texts,
                              TokenizerBehavior behavior = TokenizerBehavior::kTransformers5);

  /// The same for tokenizer.json, or for a SentencePiece tokenizer.model (BPE only), with tokenizer_config.json or "".
  static Tokenizer from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json = {});
  static Tokenizer from_sentencepiece(std::string_view model_bytes, std::string_view tokenizer_config_json = {});

  /// Runs the whole pipeline; `adds_special_tokens` includes the special tokens of the post-processor. Control tokens
  /// spelled out in `text` become their ids, as in Hugging Face. Throws DataError with the byte offset for invalid
  /// UTF-8.
  std::vector<int32_t> encode(std::string_view text, bool adds_special_tokens = true) const;

  /// As above, but special tokens that touch a user range stay ordinary text. `user_ranges` must be ascending, disjoint
  /// and within the text.
  std::vector<int32_t> encode(const MarkedText& marked, bool adds_special_tokens = true) const;

  /// Where `text` spells special tokens.
  std::vector<ByteRange> find_special_spellings(std::string_view text) const;

  /// The bytes of `text` that each token stands for, if `ids` were made from it. None if normalization rewrote the
  /// text.
  std::optional<std::vector<ByteRange>> find_ranges(std::span<const int32_t> ids, std::string_view text) const;

  /// The inverse of encode, up to normalization. Throws DataError for ids out of range; unused ids decode to nothing.
  std::string decode(std::span<const int32_t> ids, bool skips_special_tokens = false) const;

  /// One past the largest id, including added tokens.
  int64_t vocab_size() const;
  bool is_special(int32_t id) const;
  /// True for a token that is cut out of text before the model tokenizes it, special or not.
  bool is_added(int32_t id) const;

  /// The parts that transformers 5 and 4 read differently, such as "normalizer, added tokens (LlamaTokenizer)"; "":
  /// nothing, or read as transformers 4.
  const std::string& differences() const;

  /// The tokens with a role, if any.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  const std::string& bos_token() const;  // "" if there is none
  const std::string& eos_token() const;
  /// Content by role: bos_token, pad_token, ..., and roles of the model's own, as a chat template sees them.
  const std::map<std::string, std::string>& special_tokens() const;
  /// The Jinja source of the model's own chat template; "" if there is none.
  const std::string& chat_template() const;
  /// The one that renders conversations with tools in its place, which transformers calls tool_use; "": none does.
  const std::string& tool_template() const;

 private:
  struct Model;
  explicit Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  std::shared_ptr<const Model> model_;  // immutable; shared by copies and threads
};

}  // namespace plumb
