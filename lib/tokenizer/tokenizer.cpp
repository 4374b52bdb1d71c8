#include "lib/tokenizer/tokenizer.hpp"

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "lib/tokenizer/mistral_words.hpp"
#include "lib/tokenizer/token_ranges.hpp"
#include "lib/tokenizer/tokenizer_class.hpp"
#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

std::optional<int32_t> role_id(const TokenizerParts& parts, const TokenizerConfig& config, const char* role) {
  const AddedToken* token = config.find(role);
  return token == nullptr ? std::nullopt : std::optional(find_token(parts, token->content));
}

namespace {

// The older reading: adds tokens with the four roles and the additional tokens, unless the vocabulary file declares
// them.
void add_config_tokens(TokenizerParts& parts, const TokenizerConfig& config) {
  for (const auto& [id, token] : config.added.value_or(std::vector<AddedTokenWithId>())) {
    add_token(parts, id, token, "tokenizer_config.json: added_tokens_decoder");
  }
  const auto add_role = [&](const AddedToken& token, std::string_view key) {
    const int32_t id = find_token(parts, token.content);
    if (id < 0) {
      throw_error<DataError>("tokenizer_config.json: {}: '{}' is in no vocabulary; is it another model's config?", key,
                             token.content);
    }
    if (parts.added.find(id) == nullptr) add_token(parts, id, token, "tokenizer_config.json");
  };
  for (const char* role : {"bos_token", "eos_token", "pad_token", "unk_token"})
    if (const AddedToken* token = config.find(role)) add_role(*token, role);
  for (const AddedToken& token : config.extra_special.value_or(std::vector<AddedToken>()))
    add_role(token, "additional_special_tokens");
}

std::string role_content(const TokenizerConfig& config, const char* role) {
  const AddedToken* token = config.find(role);
  return token == nullptr ? "" : token->content;
}

// BOS before and EOS after every text.
Frame frame_of_roles(const TokenizerParts& parts, const TokenizerConfig& config, bool adds_bos, bool adds_eos) {
  Frame frame;
  if (const auto bos = role_id(parts, config, "bos_token"); bos && adds_bos) frame.prefix.push_back(*bos);
  if (const auto eos = role_id(parts, config, "eos_token"); eos && adds_eos) frame.suffix.push_back(*eos);
  return frame;
}

// The older reading: the post-processor's, else those that the config asks for.
Frame older_frame(const TokenizerParts& parts, const TokenizerConfig& config) {
  if (parts.frame) return *parts.frame;
  const bool adds_bos = config.adds_bos.value_or(false), adds_eos = config.adds_eos.value_or(false);
  for (const auto& [adds, role] : {std::pair(adds_bos, "bos_token"), {adds_eos, "eos_token"}})
    if (adds && config.find(role) == nullptr)
      throw_error<DataError>("tokenizer_config.json: add_{0} is true but there is no {0}", role);
  return frame_of_roles(parts, config, adds_bos, adds_eos);
}

// The reading of transformers 4.
TokenizerParts read_older(TokenizerParts parts, const TokenizerTexts& texts, TokenizerConfig& config) {
  if (texts.sentencepiece_model) parts = parse_sentencepiece(*texts.sentencepiece_model, config);
  add_config_tokens(parts, config);
  parts.frame = older_frame(parts, config);
  return parts;
}

// The reading of transformers 5; see tokenizer_class.hpp.
TokenizerParts read_current(TokenizerParts parts, const TokenizerTexts& texts, const std::string& tokenizer_class,
                            TokenizerConfig& config) {
  const bool has_json = !texts.sentencepiece_model;
  if (!has_json) parts = parse_plain_sentencepiece(*texts.sentencepiece_model, config, tokenizer_class.empty());
  if (!tokenizer_class.empty()) rebuild_as(tokenizer_class, config, parts);
  if (parts.padding_token) config.set_default("pad_token", *parts.padding_token);
  add_named_tokens(tokenizer_class, config, parts);
  fix_mistral_words(texts, config, parts);
  const bool puts_bos = tokenizer_class == "CodeLlamaTokenizer";
  if (!has_json || puts_bos) {
    parts.frame = frame_of_roles(parts, config, has_json ? puts_bos : config.adds_bos.value_or(puts_bos),
                                 !has_json && config.adds_eos.value_or(false));
  } else if (tokenizer_class == "GPTNeoXTokenizer") {
    parts.frame.reset();
  }
  if (!parts.frame) parts.frame.emplace();
  return parts;
}

std::string describe_differences(const TokenizerParts& a, const TokenizerParts& b, std::string_view tokenizer_class) {
  std::vector<std::string_view> parts;
  if (a.bpe != b.bpe) parts.push_back("model");
  if (a.merges != b.merges) parts.push_back("merges");
  if (a.normalizer != b.normalizer) parts.push_back("normalizer");
  if (a.pre_tokenizer != b.pre_tokenizer) parts.push_back("pre-tokenizer");
  if (a.decoder != b.decoder) parts.push_back("decoder");
  if (a.frame != b.frame) parts.push_back("tokens around a text");
  if (a.added != b.added) parts.push_back("added tokens");
  if (parts.empty()) return "";
  return tokenizer_class.empty() ? fmt::format("{}", fmt::join(parts, ", "))
                                 : fmt::format("{} ({})", fmt::join(parts, ", "), tokenizer_class);
}

// One byte per byte of text: 1 in the user ranges.
std::string make_user_flags(const MarkedText& marked) {
  std::string flags(marked.text.size(), '\0');
  size_t last_end = 0;
  for (const ByteRange& range : marked.user_ranges) {
    check(range.begin >= last_end && range.begin <= range.end && range.end <= flags.size(),
          "user ranges are ascending, disjoint and within the text");
    std::fill(flags.begin() + static_cast<std::ptrdiff_t>(range.begin),
              flags.begin() + static_cast<std::ptrdiff_t>(range.end), '\1');
    last_end = range.end;
  }
  return flags;
}

}  // namespace

struct Tokenizer::Model {
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::optional<std::vector<DecoderStep>> decoder;
  Frame frame;
  AddedTokens added;
  AddedTokenMatcher raw_matcher, normalized_matcher;
  std::map<int32_t, std::string> normalized_contents;  // of tokens that are or were normalized
  std::optional<int32_t> bos_id, eos_id, pad_id;
  std::string bos_token, eos_token, chat_template, tool_template, differences;
  std::map<std::string, std::string> special_tokens;
  Bpe bpe;

  Model(TokenizerParts parts, TokenizerConfig config, std::string differences);
  std::vector<int32_t> encode(std::string_view text, const std::string* user_flags, bool adds_special_tokens) const;
  void encode_raw(std::string_view text, const std::string* user_flags, bool starts_input,
                  std::vector<int32_t>& ids) const;
  void encode_normalized(std::string_view text, bool starts_input, std::vector<int32_t>& ids) const;
  std::string_view token_to_decode(int32_t id) const;
};

Tokenizer::Model::Model(TokenizerParts parts, TokenizerConfig config, std::string differences_from_older)
    : frame(parts.frame.value_or(Frame())),
      bos_id(role_id(parts, config, "bos_token")),
      eos_id(role_id(parts, config, "eos_token")),
      pad_id(role_id(parts, config, "pad_token")),
      bos_token(role_content(config, "bos_token")),
      eos_token(role_content(config, "eos_token")),
      chat_template(std::move(config.chat_template)),
      tool_template(std::move(config.tool_template)),
      differences(std::move(differences_from_older)),
      bpe(std::move(parts.vocabulary), parts.merges, std::move(parts.bpe)) {
  for (const NamedToken& named : config.named)
    if (named.token) special_tokens[named.name] = named.token->content;
  normalizer = std::move(parts.normalizer);
  pre_tokenizer = std::move(parts.pre_tokenizer);
  decoder = std::move(parts.decoder);
  added = std::move(parts.added);
  for (const auto& [id, token] : added.by_id()) {
    std::string content = token.content;
    if (token.is_normalized || token.was_normalized) {
      normalize(normalizer, content, nullptr);
      normalized_contents[id] = content;
    }
    if (config.splits_special_tokens && token.is_special) continue;
    if (token.is_normalized) {
      normalized_matcher.add(content, id, token);
    } else {
      raw_matcher.add(token.content, id, token);
    }
  }
}

// `text` is normalized and contains no added token.
void Tokenizer::Model::encode_normalized(std::string_view text, bool starts_input, std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  if (pre_tokenizer.empty()) return bpe.encode(text, ids);
  Pieces pieces{std::string(text), {{0, text.size()}}, starts_input};
  pre_tokenize(pre_tokenizer, pieces);
  for (size_t i = 0; i < pieces.ranges.size(); ++i) bpe.encode(pieces.piece(i), ids);
}

// `text` contains no added token that is matched in raw text.
void Tokenizer::Model::encode_raw(std::string_view text, const std::string* user_flags, bool starts_input,
                                  std::vector<int32_t>& ids) const {
  std::string normalized(text);
  std::string flags;
  const bool needs_flags = user_flags != nullptr && normalized_matcher.has_special();
  if (needs_flags) flags = *user_flags;
  normalize(normalizer, normalized, needs_flags ? &flags : nullptr);
  for (const auto& [range, id] : normalized_matcher.split(normalized, needs_flags ? &flags : nullptr)) {
    if (id >= 0) {
      ids.push_back(id);
    } else {
      const std::string_view part = std::string_view(normalized).substr(range.begin, range.end - range.begin);
      encode_normalized(part, starts_input && range.begin == 0, ids);
    }
  }
}

std::vector<int32_t> Tokenizer::Model::encode(std::string_view text, const std::string* user_flags,
                                              bool adds_special_tokens) const {
  check_utf8(text, "text");
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  if (adds_special_tokens) ids = frame.prefix;
  for (const auto& [range, id] : raw_matcher.split(text, user_flags)) {
    if (id >= 0) {
      ids.push_back(id);
      continue;
    }
    std::string flags;
    if (user_flags != nullptr) flags = user_flags->substr(range.begin, range.end - range.begin);
    encode_raw(text.substr(range.begin, range.end - range.begin), user_flags != nullptr ? &flags : nullptr,
               range.begin == 0, ids);
  }
  if (adds_special_tokens) ids.insert(ids.end(), frame.suffix.begin(), frame.suffix.end());
  return ids;
}

std::string_view Tokenizer::Model::token_to_decode(int32_t id) const {
  // Decoders undo normalization, so a token matched in normalized text must be decoded from its normalized content.
  const auto normalized = normalized_contents.find(id);
  if (normalized != normalized_contents.end()) return normalized->second;
  const AddedToken* token = added.find(id);
  return token != nullptr ? std::string_view(token->content) : bpe.vocabulary().token(id);
}

TokenizerReading read_tokenizer(const TokenizerTexts& texts, TokenizerBehavior behavior) {
  TokenizerParts parts;
  if (!texts.sentencepiece_model) parts = parse_tokenizer_json(texts.tokenizer_json);
  const auto read_as_4 = [&](TokenizerConfig& config) {
    config = parse_tokenizer_config(texts, TokenizerBehavior::kTransformers4);
    return read_older(parts, texts, config);
  };
  TokenizerReading reading;
  if (behavior == TokenizerBehavior::kTransformers4) {
    reading.parts = read_as_4(reading.config);
    return reading;
  }
  reading.config = parse_tokenizer_config(texts, behavior);
  const std::string tokenizer_class = choose_tokenizer_class(texts, reading.config);
  reading.parts = read_current(parts, texts, tokenizer_class, reading.config);
  try {
    TokenizerConfig older_config;
    reading.differences = describe_differences(read_as_4(older_config), reading.parts, tokenizer_class);
  } catch (const DataError&) {  // there are no older ids
  }
  return reading;
}

Tokenizer Tokenizer::from_texts(const TokenizerTexts& texts, TokenizerBehavior behavior) {
  TokenizerReading reading = read_tokenizer(texts, behavior);
  return Tokenizer(std::make_shared<const Model>(std::move(reading.parts), std::move(reading.config),
                                                 std::move(reading.differences)));
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  return from_texts(
      {.tokenizer_json = std::string(tokenizer_json), .tokenizer_config = std::string(tokenizer_config_json)});
}

Tokenizer Tokenizer::from_sentencepiece(std::string_view model_bytes, std::string_view tokenizer_config_json) {
  return from_texts(
      {.sentencepiece_model = std::string(model_bytes), .tokenizer_config = std::string(tokenizer_config_json)});
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool adds_special_tokens) const {
  return model_->encode(text, nullptr, adds_special_tokens);
}

std::vector<int32_t> Tokenizer::encode(const MarkedText& marked, bool adds_special_tokens) const {
  if (marked.user_ranges.empty()) return encode(marked.text, adds_special_tokens);
  const std::string flags = make_user_flags(marked);
  return model_->encode(marked.text, &flags, adds_special_tokens);
}

std::vector<ByteRange> Tokenizer::find_special_spellings(std::string_view text) const {
  std::vector<ByteRange> spellings;
  for (const AddedTokenMatcher::Part& part : model_->raw_matcher.split(text, nullptr)) {
    if (part.id >= 0 && is_special(part.id)) spellings.push_back(part.range);
  }
  return spellings;
}

std::optional<std::vector<ByteRange>> Tokenizer::find_ranges(std::span<const int32_t> ids,
                                                             std::string_view text) const {
  const bool is_byte_level = std::any_of(model_->pre_tokenizer.begin(), model_->pre_tokenizer.end(),
                                         [](const auto& step) { return std::holds_alternative<ByteLevelStep>(step); });
  std::vector<TokenText> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (const AddedToken* added = model_->added.find(id)) {
      tokens.push_back({added->content, true});
    } else {
      const std::string_view token = model_->bpe.vocabulary().token(id);
      tokens.push_back({bytes_of_token(token, is_byte_level), false});
    }
  }
  return find_token_ranges(tokens, text);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skips_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw_error<DataError>("token id {}: expected 0 to {}; do model and tokenizer belong together?", id,
                             vocab_size() - 1);
    }
    // as tokenizers 0.23: what is special is the content, so one that normalization changes is not skipped
    if (skips_special_tokens && is_special(id) && model_->token_to_decode(id) == model_->added.find(id)->content)
      continue;
    // an unused id decodes to nothing
    if (model_->added.find(id) == nullptr && !model_->bpe.vocabulary().contains(id)) continue;
    tokens.emplace_back(model_->token_to_decode(id));
  }
  if (model_->decoder) return decode_tokens(*model_->decoder, std::move(tokens));
  std::string text;
  for (const std::string& token : tokens) text.append(text.empty() ? "" : " ").append(token);
  return text;
}

int64_t Tokenizer::vocab_size() const {
  const auto& added = model_->added.by_id();
  const int32_t last_added = added.empty() ? -1 : added.rbegin()->first;
  return std::max(model_->bpe.vocabulary().size(), last_added + 1);
}

bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* token = model_->added.find(id);
  return token != nullptr && token->is_special;
}

bool Tokenizer::is_added(int32_t id) const { return model_->added.find(id) != nullptr; }

std::optional<int32_t> Tokenizer::bos_id() const { return model_->bos_id; }
std::optional<int32_t> Tokenizer::eos_id() const { return model_->eos_id; }
std::optional<int32_t> Tokenizer::pad_id() const { return model_->pad_id; }
const std::string& Tokenizer::bos_token() const { return model_->bos_token; }
const std::string& Tokenizer::eos_token() const { return model_->eos_token; }
const std::string& Tokenizer::differences() const { return model_->differences; }
const std::map<std::string, std::string>& Tokenizer::special_tokens() const { return model_->special_tokens; }
const std::string& Tokenizer::chat_template() const { return model_->chat_template; }
const std::string& Tokenizer::tool_template() const { return model_->tool_template; }

}  // namespace plumb
