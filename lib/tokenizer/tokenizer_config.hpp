// The contents of the small files beside a tokenizer: roles of tokens, added tokens, the class, and the chat template.
// Source: huggingface/transformers 5.23, PreTrainedTokenizerBase._from_pretrained and __init__.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/added_tokens.hpp"
#include "lib/tokenizer/tokenizer_behavior.hpp"

namespace plumb {

/// The contents of the files of a model directory that concern its tokenizer; "" where there is no such file.
struct TokenizerTexts {
  std::string tokenizer_json = {};
  std::optional<std::string> sentencepiece_model = {};  // tokenizer.model, where there is no tokenizer.json
  std::string tokenizer_config = {};
  std::string special_tokens_map = {};
  std::string added_tokens = {};   // added_tokens.json
  std::string chat_template = {};  // chat_template.jinja; precedes the templates in tokenizer_config.json
  std::string tool_template = {};  // additional_chat_templates/tool_use.jinja
  std::string model_config = {};   // config.json
};

struct AddedTokenWithId {
  int32_t id = 0;
  AddedToken token;
};

/// A token with a role: bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token, or one that the
/// model names itself, such as image_token.
struct NamedToken {
  std::string name;
  std::optional<AddedToken> token;  // none: the file says null
};

struct TokenizerConfig {
  std::vector<NamedToken> named;                                      // those of transformers first, in its order
  std::optional<std::vector<AddedToken>> extra_special;               // none: no file lists any
  std::optional<std::vector<AddedTokenWithId>> added;                 // added_tokens_decoder, by id
  std::vector<AddedTokenWithId> listed_added;                         // added_tokens.json, if that is to be read
  std::optional<bool> adds_bos, adds_eos, adds_prefix_space, legacy;  // none: absent or null
  bool splits_special_tokens = false;                                 // special tokens are not found in text
  bool fixes_mistral_regex = false;
  std::string tokenizer_class;
  bool has_own_code = false;  // names Python code of its own, which only some readers run
  std::string chat_template;
  std::string tool_template;  // renders conversations with tools; "": the chat template does

  /// Null if the files name none, or null, or "".
  const AddedToken* find(std::string_view name) const;
  /// Gives the role to a token unless the files mention the role.
  void set_default(std::string_view name, std::string_view content);
};

/// Throws DataError for malformed contents; ignores keys that it does not use.
TokenizerConfig parse_tokenizer_config(const TokenizerTexts& texts, TokenizerBehavior behavior);

}  // namespace plumb
