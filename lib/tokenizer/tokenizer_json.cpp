#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxMerges = size_t{1} << 21;
constexpr size_t kMaxFrameIds = 256;  // limit on ids that the post-processor adds

// A merge is written "a b" or ["a", "b"].
struct MergeSides {
  std::string_view left, right;
};
MergeSides parse_sides(const Json& value, size_t rank) {
  constexpr std::string_view kExpected =
      "tokenizer.json: model: merges: {}: expected \"a b\" or [\"a\", \"b\"], got {}";
  if (value.is_string()) {
    const std::string_view text = value.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      throw_error<DataError>(kExpected, rank, value.dump());
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (!value.is_array() || value.size() != 2 || !value[0].is_string() || !value[1].is_string()) {
    throw_error<DataError>(kExpected, rank, value.dump().substr(0, 80));
  }
  return {value[0].get_ref<const std::string&>(), value[1].get_ref<const std::string&>()};
}

void parse_vocabulary(const Json& model, Vocabulary& vocabulary) {
  constexpr std::string_view kWhere = "tokenizer.json: model: vocab";
  const Json& vocab = field_or_null(model, "vocab", kWhere);
  if (!vocab.is_object()) throw_error<DataError>("{}: expected an object, got {}", kWhere, vocab.type_name());
  for (const auto& [token, id] : vocab.get_ref<const Json::object_t&>()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= uint64_t{kMaxVocabSize}) {
      token_id_value(id, fmt::format("{}: '{}'", kWhere, token));
    }
    vocabulary.add(token, id.get<int32_t>(), kWhere);
  }
}

void parse_merges(const Json& model, TokenizerParts& parts) {
  constexpr std::string_view kWhere = "tokenizer.json: model: merges";
  const Json& merges = array_field(model, "merges", "tokenizer.json: model");
  if (merges.size() > kMaxMerges) {
    throw_error<DataError>("{}: {} merges, at most {} are allowed", kWhere, merges.size(), kMaxMerges);
  }
  const auto id_of = [&](std::string_view token, size_t rank) {
    const int32_t id = parts.vocabulary.find(token);
    if (id < 0) throw_error<DataError>("{}: {}: '{}' is not in the vocabulary", kWhere, rank, token);
    return id;
  };
  parts.merges.reserve(merges.size());
  std::string joined;
  int32_t rank = 0;
  for (const Json& merge : merges) {
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
    const MergeSides sides = parse_sides(merge, rank);
    joined.assign(sides.left).append(sides.right);
    const auto at = static_cast<size_t>(rank);
    parts.merges.push_back({id_of(sides.left, at), id_of(sides.right, at), id_of(joined, at), rank});
    ++rank;
  }
}

void parse_model(const Json& model, TokenizerParts& parts) {
  constexpr std::string_view kWhere = "tokenizer.json: model";
  // old files omit the type
  const std::string type = optional_string_field(model, "type", kWhere).value_or("BPE");
  if (type != "BPE") throw_error<DataError>("{}: type: expected BPE, the only supported one, got {}", kWhere, type);
  const Json& dropout = field_or_null(model, "dropout", kWhere);
  if (!dropout.is_null() && !(dropout.is_number() && dropout.get<double>() == 0)) {
    throw_error<DataError>("{}: dropout: expected null or 0, got {}", kWhere, dropout.dump());
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string affix = optional_string_field(model, key, kWhere).value_or("");
    if (!affix.empty()) throw_error<DataError>("{}: {}: expected null or \"\", got '{}'", kWhere, key, affix);
  }
  parts.bpe.unknown_token = optional_string_field(model, "unk_token", kWhere);
  parts.bpe.fuses_unknown = bool_field(model, "fuse_unk", false, kWhere);
  parts.bpe.falls_back_to_bytes = bool_field(model, "byte_fallback", false, kWhere);
  parts.bpe.ignores_merges = bool_field(model, "ignore_merges", false, kWhere);
  parse_vocabulary(model, parts.vocabulary);
  parse_merges(model, parts);
}

void parse_added_tokens(const Json& root, TokenizerParts& parts) {
  constexpr std::string_view kWhere = "tokenizer.json: added_tokens";
  if (field_or_null(root, "added_tokens", kWhere).is_null()) return;
  for (const Json& value : array_field(root, "added_tokens", "tokenizer.json")) {
    AddedToken token;
    const int32_t id = token_id_value(field_or_null(value, "id", kWhere), "tokenizer.json: added_tokens: id");
    token.content = string_field(value, "content", kWhere);
    token.is_single_word = bool_field(value, "single_word", false, kWhere);
    token.strips_left = bool_field(value, "lstrip", false, kWhere);
    token.strips_right = bool_field(value, "rstrip", false, kWhere);
    token.is_special = bool_field(value, "special", false, kWhere);
    token.is_normalized = bool_field(value, "normalized", !token.is_special, kWhere);
    add_token(parts, id, std::move(token), kWhere);
  }
}

Frame parse_template(const Json& value, const TokenizerParts& parts) {
  constexpr std::string_view kWhere = "tokenizer.json: post_processor: TemplateProcessing";
  Frame frame;
  const Json& tokens = field_or_null(value, "special_tokens", kWhere);
  size_t num_sequences = 0;
  for (const Json& piece : array_field(value, "single", kWhere)) {
    const Json& token = field_or_null(piece, "SpecialToken", kWhere);
    if (token.is_null()) {
      const std::string sequence = string_field(field_or_null(piece, "Sequence", kWhere), "id", kWhere);
      if (sequence != "A") throw_error<DataError>("{}: single: expected Sequence A, got {}", kWhere, sequence);
      ++num_sequences;
      continue;
    }
    const std::string name = string_field(token, "id", kWhere);
    const Json& entry = field_or_null(tokens, name.c_str(), kWhere);
    if (entry.is_null()) throw_error<DataError>("{}: special_tokens: '{}' is missing", kWhere, name);
    for (const Json& id_json : array_field(entry, "ids", kWhere)) {
      const int32_t id = token_id_value(id_json, kWhere);
      if (!parts.vocabulary.contains(id) && parts.added.find(id) == nullptr) {
        throw_error<DataError>("{}: special_tokens: '{}' has the id {}, which no token has", kWhere, name, id);
      }
      (num_sequences == 0 ? frame.prefix : frame.suffix).push_back(id);
    }
  }
  if (num_sequences != 1) {
    throw_error<DataError>("{}: single: expected Sequence A once, got it {} times", kWhere, num_sequences);
  }
  return frame;
}

void parse_post_processor(const Json& value, TokenizerParts& parts, int depth) {
  constexpr std::string_view kWhere = "tokenizer.json: post_processor";
  if (value.is_null()) return;
  if (depth > kMaxDepth) throw_error<DataError>("{}: sequences nested more than {} deep", kWhere, kMaxDepth);
  if (!parts.frame) parts.frame.emplace();
  const std::string type = string_field(value, "type", kWhere);
  if (type == "Sequence") {
    for (const Json& part : array_field(value, "processors", kWhere)) parse_post_processor(part, parts, depth + 1);
  } else if (type == "TemplateProcessing") {
    const Frame outer = parse_template(value, parts);
    Frame& frame = *parts.frame;
    frame.prefix.insert(frame.prefix.begin(), outer.prefix.begin(), outer.prefix.end());
    frame.suffix.insert(frame.suffix.end(), outer.suffix.begin(), outer.suffix.end());
    if (frame.prefix.size() + frame.suffix.size() > kMaxFrameIds)
      throw_error<DataError>("{}: expected at most {} tokens around a text, got more", kWhere, kMaxFrameIds);
  } else if (type != "ByteLevel") {  // ByteLevel changes offsets only
    throw_error<DataError>("{}: type: expected one of Sequence, TemplateProcessing, ByteLevel, got {}", kWhere, type);
  }
}

}  // namespace

int32_t find_token(const TokenizerParts& parts, std::string_view token) {
  const int32_t added = parts.added.id_of(token);
  return added >= 0 ? added : parts.vocabulary.find(token);
}

void check_token(const TokenizerParts& parts, int32_t id, const AddedToken& token, std::string_view where) {
  const int32_t known = find_token(parts, token.content);
  if (known >= 0 && known != id) {
    throw_error<DataError>("{}: '{}' has two ids, {} and {}", where, token.content, known, id);
  }
  const AddedToken* other = parts.added.find(id);
  if (known < 0 && (other != nullptr || parts.vocabulary.contains(id))) {
    throw_error<DataError>("{}: '{}' and '{}' have the same id {}", where,
                           other != nullptr ? other->content : parts.vocabulary.token(id), token.content, id);
  }
}

void add_token(TokenizerParts& parts, int32_t id, AddedToken token, std::string_view where) {
  if (token.content.empty()) return;
  check_token(parts, id, token, where);
  parts.added.put(id, std::move(token));
}

TokenizerParts parse_tokenizer_json(std::string_view text) {
  const Json root = parse_json(text, "tokenizer.json");
  TokenizerParts parts;
  const Json& model = field_or_null(root, "model", "tokenizer.json");
  if (!model.is_object())
    throw_error<DataError>("tokenizer.json: model: expected an object, got {}", model.type_name());
  parse_model(model, parts);
  parse_added_tokens(root, parts);
  const auto part = [&](const char* key) -> const Json& { return field_or_null(root, key, "tokenizer.json"); };
  parts.normalizer = parse_normalizer(part("normalizer"), "tokenizer.json: normalizer");
  parts.pre_tokenizer = parse_pre_tokenizer(part("pre_tokenizer"), "tokenizer.json: pre_tokenizer");
  parse_post_processor(part("post_processor"), parts, 0);
  if (const Json& padding = part("padding"); padding.is_object())
    parts.padding_token = optional_string_field(padding, "pad_token", "tokenizer.json: padding");
  if (!part("decoder").is_null()) parts.decoder = parse_decoder(part("decoder"), "tokenizer.json: decoder");
  return parts;
}

}  // namespace plumb
