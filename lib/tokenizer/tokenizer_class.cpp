#include "lib/tokenizer/tokenizer_class.hpp"

#include <algorithm>
#include <array>
#include <map>

#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/tokenizer/model_types.hpp"

namespace plumb {

namespace {

constexpr const char* kSpaceMark = "\xE2\x96\x81";  // U+2581
constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// as above, with combining marks in words
constexpr const char* kQwen35Words = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|)"
                                     R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The parts that a class rebuilds, in the spelling of tokenizer.json.
struct Pipeline {
  Json normalizer, pre_tokenizer, decoder;
};

Json byte_level(bool adds_prefix_space, bool has_words) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", adds_prefix_space}, {"use_regex", has_words}};
}
Json replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}
Json nfc() { return {{"type", "NFC"}}; }
Json sequence(const char* key, Json parts) { return {{"type", "Sequence"}, {key, std::move(parts)}}; }

Json sentencepiece_decoder(bool strips_first_space) {
  Json parts = {replace(kSpaceMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (strips_first_space) parts.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return sequence("decoders", std::move(parts));
}
Json metaspace(const char* scheme) {
  return {{"type", "Metaspace"}, {"replacement", kSpaceMark}, {"prepend_scheme", scheme}, {"split", false}};
}

Pipeline llama_pipeline(const TokenizerConfig& config) {
  const bool has_prefix = config.adds_prefix_space.value_or(true);
  const char* scheme = !has_prefix ? "never" : config.legacy.value_or(false) ? "always" : "first";
  return {nullptr, metaspace(scheme), sentencepiece_decoder(has_prefix)};
}
Pipeline code_llama_pipeline(const TokenizerConfig& config) {
  return {nullptr, metaspace(config.adds_prefix_space.value_or(true) ? "first" : "never"), sentencepiece_decoder(true)};
}
Pipeline gemma_pipeline(const TokenizerConfig&) {
  const Json split = {{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}};
  return {replace(" ", kSpaceMark), split, sentencepiece_decoder(false)};
}
Pipeline qwen_pipeline(const TokenizerConfig& config, const char* words) {
  const Json split = {{"type", "Split"}, {"pattern", {{"Regex", words}}}, {"behavior", "Isolated"}};
  const bool has_prefix = config.adds_prefix_space.value_or(false);
  return {nfc(), sequence("pretokenizers", {split, byte_level(has_prefix, false)}), byte_level(true, true)};
}
Pipeline qwen2_pipeline(const TokenizerConfig& config) { return qwen_pipeline(config, kQwen2Words); }
Pipeline qwen35_pipeline(const TokenizerConfig& config) { return qwen_pipeline(config, kQwen35Words); }
Pipeline gpt2_pipeline(const TokenizerConfig& config) {
  return {nullptr, byte_level(config.adds_prefix_space.value_or(false), true), byte_level(true, true)};
}
Pipeline neox_pipeline(const TokenizerConfig& config) {
  return {nfc(), byte_level(config.adds_prefix_space.value_or(false), true), byte_level(true, true)};
}
Pipeline cohere_pipeline(const TokenizerConfig& config) {
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const Json bytes = byte_level(config.adds_prefix_space.value_or(false), true);
  return {nfc(), sequence("pretokenizers", {digits, bytes}), byte_level(true, true)};
}

struct Role {
  std::string_view name, content;
};
constexpr Role kNoRole = {};

struct TokenizerClass {
  std::string_view name;
  Pipeline (*pipeline)(const TokenizerConfig&);
  bool is_sentencepiece;  // byte fallback; unknown characters in a row are one
  bool knows_unknown;     // unk_token stands for characters that are in no vocabulary
  std::array<Role, 8> roles;
};

constexpr Role kEndOfText[] = {{"unk_token", "<|endoftext|>"},
                               {"bos_token", "<|endoftext|>"},
                               {"eos_token", "<|endoftext|>"},
                               {"pad_token", "<|endoftext|>"}};
constexpr std::array<Role, 8> kGpt2Roles = {kEndOfText[0], kEndOfText[1], kEndOfText[2]};
constexpr std::array<Role, 8> kQwenRoles = {kEndOfText[0], kEndOfText[2], kEndOfText[3]};
constexpr std::array<Role, 8> kLlamaRoles = {Role{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}};

constexpr std::array<TokenizerClass, 9> kClasses = {{
    {"LlamaTokenizer", llama_pipeline, true, false, kLlamaRoles},
    {"CodeLlamaTokenizer",
     code_llama_pipeline,
     true,
     true,
     {kLlamaRoles[0], kLlamaRoles[1], kLlamaRoles[2], Role{"prefix_token", "\xE2\x96\x81<PRE>"},
      Role{"middle_token", "\xE2\x96\x81<MID>"}, Role{"suffix_token", "\xE2\x96\x81<SUF>"},
      Role{"eot_token", "\xE2\x96\x81<EOT>"}, Role{"fill_token", "<FILL_ME>"}}},
    {"GemmaTokenizer",
     gemma_pipeline,
     true,
     true,
     {Role{"unk_token", "<unk>"}, Role{"bos_token", "<bos>"}, Role{"eos_token", "<eos>"}, Role{"pad_token", "<pad>"},
      Role{"mask_token", "<mask>"}}},
    {"Qwen2Tokenizer", qwen2_pipeline, false, false, kQwenRoles},
    {"Qwen3_5Tokenizer", qwen35_pipeline, false, false, kQwenRoles},
    {"GPT2Tokenizer", gpt2_pipeline, false, false, kGpt2Roles},
    {"CodeGenTokenizer", gpt2_pipeline, false, false, kGpt2Roles},
    {"GPTNeoXTokenizer",
     neox_pipeline,
     false,
     false,
     {kEndOfText[0], kEndOfText[1], kEndOfText[2], Role{"pad_token", "<|padding|>"}}},
    {"CohereTokenizer",
     cohere_pipeline,
     false,
     false,
     {Role{"unk_token", "<UNK>"}, Role{"bos_token", "<BOS_TOKEN>"}, Role{"eos_token", "<|END_OF_TURN_TOKEN|>"},
      Role{"pad_token", "<PAD>"}, Role{"cls_token", "<CLS>"}, Role{"sep_token", "<SEP>"},
      Role{"mask_token", "<MASK_TOKEN>"}}},
}};

// Other classes of transformers 5.23 with an __init__ of their own or of Python alone.
constexpr auto kUnsupportedClasses = std::to_array<std::string_view>({"AlbertTokenizer",
                                                                      "BartTokenizer",
                                                                      "BarthezTokenizer",
                                                                      "BartphoTokenizer",
                                                                      "BertGenerationTokenizer",
                                                                      "BertJapaneseTokenizer",
                                                                      "BertTokenizer",
                                                                      "BertweetTokenizer",
                                                                      "BigBirdTokenizer",
                                                                      "BioGptTokenizer",
                                                                      "BlenderbotSmallTokenizer",
                                                                      "BlenderbotTokenizer",
                                                                      "ByT5Tokenizer",
                                                                      "CLIPTokenizer",
                                                                      "CTRLTokenizer",
                                                                      "CamembertTokenizer",
                                                                      "CanineTokenizer",
                                                                      "ClvpTokenizer",
                                                                      "CpmAntTokenizer",
                                                                      "CpmTokenizer",
                                                                      "DPRContextEncoderTokenizer",
                                                                      "DPRQuestionEncoderTokenizer",
                                                                      "DPRReaderTokenizer",
                                                                      "DebertaTokenizer",
                                                                      "DebertaV2Tokenizer",
                                                                      "DiaTokenizer",
                                                                      "DistilBertTokenizer",
                                                                      "EsmTokenizer",
                                                                      "EsmcTokenizer",
                                                                      "FSMTTokenizer",
                                                                      "FastSpeech2ConformerTokenizer",
                                                                      "FlaubertTokenizer",
                                                                      "FunnelTokenizer",
                                                                      "GPTNeoXJapaneseTokenizer",
                                                                      "GPTSw3Tokenizer",
                                                                      "HerbertTokenizer",
                                                                      "LEDTokenizer",
                                                                      "LasrTokenizer",
                                                                      "LayoutLMv2Tokenizer",
                                                                      "LayoutLMv3Tokenizer",
                                                                      "LayoutXLMTokenizer",
                                                                      "LukeTokenizer",
                                                                      "LxmertTokenizer",
                                                                      "M2M100Tokenizer",
                                                                      "MBart50Tokenizer",
                                                                      "MBartTokenizer",
                                                                      "MLukeTokenizer",
                                                                      "MPNetTokenizer",
                                                                      "MarianTokenizer",
                                                                      "MarkupLMTokenizer",
                                                                      "MgpstrTokenizer",
                                                                      "MobileBertTokenizer",
                                                                      "MvpTokenizer",
                                                                      "MyT5Tokenizer",
                                                                      "NllbTokenizer",
                                                                      "NougatTokenizer",
                                                                      "OpenAIGPTTokenizer",
                                                                      "PLBartTokenizer",
                                                                      "PegasusTokenizer",
                                                                      "PerceiverTokenizer",
                                                                      "PhobertTokenizer",
                                                                      "Pop2PianoTokenizer",
                                                                      "ProphetNetTokenizer",
                                                                      "RagTokenizer",
                                                                      "ReformerTokenizer",
                                                                      "RemBertTokenizer",
                                                                      "RoCBertTokenizer",
                                                                      "RoFormerTokenizer",
                                                                      "RobertaTokenizer",
                                                                      "SeamlessM4TTokenizer",
                                                                      "Siglip2Tokenizer",
                                                                      "SiglipTokenizer",
                                                                      "Speech2TextTokenizer",
                                                                      "SpeechT5Tokenizer",
                                                                      "SplinterTokenizer",
                                                                      "SqueezeBertTokenizer",
                                                                      "T5Tokenizer",
                                                                      "TapasTokenizer",
                                                                      "Tipsv2Tokenizer",
                                                                      "UdopTokenizer",
                                                                      "VideoPrismTokenizer",
                                                                      "VitsTokenizer",
                                                                      "Wav2Vec2CTCTokenizer",
                                                                      "Wav2Vec2PhonemeCTCTokenizer",
                                                                      "WhisperTokenizer",
                                                                      "XGLMTokenizer",
                                                                      "XLMRobertaTokenizer",
                                                                      "XLMTokenizer",
                                                                      "XLNetTokenizer"});

constexpr auto kPlainClasses =
    std::to_array<std::string_view>({"TokenizersBackend", "PreTrainedTokenizer", "PythonBackend", "BloomTokenizer"});

const TokenizerClass* find_class(std::string_view name) {
  for (const TokenizerClass& known : kClasses)
    if (known.name == name) return &known;
  return nullptr;
}

template <class List>
bool contains(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

std::string without_fast(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

// The class of that name, if transformers has one that rebuilds.
std::string class_by_name(const std::string& name) {
  if (contains(kUnsupportedClasses, name))
    throw_error<DataError>(
        "tokenizer_class {}: transformers 5 rebuilds the tokenizer in a way that is not supported; "
        "--tokenizer_behavior transformers4 takes tokenizer.json as it is written",
        name);
  return find_class(name) != nullptr ? name : "";
}

std::optional<std::string> text_field(const Json& object, const char* key) {
  if (!object.is_object()) return std::nullopt;
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? std::optional(found->get<std::string>()) : std::nullopt;
}

// `declared`: the class that the files name, "" if none.
std::string resolve_class(const std::string& declared, const std::string& model_type, bool has_byte_level) {
  const RegisteredClass* registered = find_registered_class(model_type);
  const bool is_wrong = has_wrong_class(model_type);
  if (declared == "LlamaTokenizer" && has_byte_level && !is_wrong) return "";
  if (registered == nullptr || registered->tokenizer_class == declared) return class_by_name(declared);
  if (registered->tokenizer_class.empty()) return "";
  return class_by_name(is_wrong || declared.empty() ? std::string(registered->tokenizer_class) : declared);
}

// Tokens with a role, then the others.
std::vector<AddedToken> special_tokens(const TokenizerConfig& config) {
  std::vector<AddedToken> tokens;
  for (const NamedToken& named : config.named)
    if (named.token && !named.token->content.empty()) tokens.push_back(*named.token);
  for (const AddedToken& token : config.extra_special.value_or(std::vector<AddedToken>()))
    if (!token.content.empty()) tokens.push_back(token);
  return tokens;
}

int32_t id_or_next(const TokenizerParts& parts, std::string_view content) {
  if (const int32_t id = find_token(parts, content); id >= 0) return id;
  const auto& added = parts.added.by_id();
  const int32_t next = std::max(parts.vocabulary.size(), added.empty() ? 0 : added.rbegin()->first + 1);
  if (next >= kMaxVocabSize)
    throw_error<DataError>("tokenizer_config.json: '{}': there is no free id below {}", content, kMaxVocabSize);
  return next;
}

// A token that is named again gets new flags, but stays special, and its text stays that of its normalized content.
void put_token(TokenizerParts& parts, int32_t id, AddedToken token) {
  if (const AddedToken* before = parts.added.find(id)) {
    token.is_special |= before->is_special;
    token.was_normalized = before->is_normalized || before->was_normalized;
  }
  parts.added.put(id, std::move(token));
}

}  // namespace

std::string choose_tokenizer_class(const TokenizerTexts& texts, const TokenizerConfig& config) {
  const Json model = texts.model_config.empty() ? Json() : parse_json(texts.model_config, "config.json");
  const std::string model_type = text_field(model, "model_type").value_or("");
  std::string declared = config.tokenizer_class;
  if (declared.empty()) declared = text_field(model, "tokenizer_class").value_or("");
  declared = without_fast(std::move(declared));
  const bool has_byte_level = texts.tokenizer_json.find("\"ByteLevel\"") != std::string::npos;
  if (!config.has_own_code) {
    const std::string resolved = resolve_class(declared, model_type, has_byte_level);
    const TokenizerClass* rebuilt = find_class(resolved);
    const bool finds_vocabulary = rebuilt == nullptr || rebuilt->is_sentencepiece || has_byte_level;
    return finds_vocabulary || texts.tokenizer_json.empty() ? resolved : "";
  }
  const RegisteredClass* registered = find_registered_class(model_type);
  const bool is_known =
      find_class(declared) != nullptr || contains(kUnsupportedClasses, declared) || contains(kPlainClasses, declared);
  if (!is_known && registered == nullptr)
    throw_error<DataError>(
        "tokenizer_config.json: auto_map: the tokenizer is Python code of its own, which is not run; "
        "--tokenizer_behavior transformers4 takes tokenizer.json as it is written");
  return class_by_name(declared.empty() ? std::string(registered->tokenizer_class) : declared);
}

void rebuild_as(std::string_view tokenizer_class, TokenizerConfig& config, TokenizerParts& parts) {
  const TokenizerClass* rebuilt = find_class(tokenizer_class);
  check(rebuilt != nullptr, "a tokenizer is rebuilt by a supported class");
  for (const Role& role : rebuilt->roles)
    if (!role.name.empty()) config.set_default(role.name, role.content);
  const Pipeline pipeline = rebuilt->pipeline(config);
  parts.normalizer = parse_normalizer(pipeline.normalizer, tokenizer_class);
  parts.pre_tokenizer = parse_pre_tokenizer(pipeline.pre_tokenizer, tokenizer_class);
  parts.decoder = parse_decoder(pipeline.decoder, tokenizer_class);
  parts.bpe = {};
  parts.bpe.fuses_unknown = parts.bpe.falls_back_to_bytes = rebuilt->is_sentencepiece;
  if (const AddedToken* unknown = config.find("unk_token"); unknown != nullptr && rebuilt->knows_unknown)
    parts.bpe.unknown_token = unknown->content;
}

void add_named_tokens(std::string_view tokenizer_class, const TokenizerConfig& config, TokenizerParts& parts) {
  std::map<int32_t, AddedToken> listed;
  for (const auto& [id, token] : config.added.value_or(config.listed_added)) listed[id] = token;
  if (!config.added)
    for (const auto& [id, token] : parts.added.by_id()) listed[id] = token;
  if (!tokenizer_class.empty()) parts.added = {};
  const std::vector<AddedToken> special = special_tokens(config);
  for (auto& [id, token] : listed) {
    const auto is_it = [&, &token = token](const NamedToken& named) {
      return named.token && named.token->content == token.content;
    };
    token.is_special |= std::any_of(config.named.begin(), config.named.end(), is_it);
    check_token(parts, id, token, "tokenizer_config.json: added_tokens_decoder");
    put_token(parts, id, token);
  }
  for (const AddedToken& token : special)
    if (parts.added.id_of(token.content) < 0) put_token(parts, id_or_next(parts, token.content), token);
  if (tokenizer_class != "Qwen2Tokenizer" && tokenizer_class != "CohereTokenizer") return;
  // these classes add their special tokens once more
  for (const AddedToken& token : special) {
    AddedToken again = token;
    if (tokenizer_class == "CohereTokenizer") again = *parts.added.find(id_or_next(parts, token.content));
    again.is_special = true;
    put_token(parts, id_or_next(parts, token.content), again);
  }
}

}  // namespace plumb
