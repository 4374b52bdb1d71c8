#include "lib/tokenizer/pre_tokenizer.hpp"

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/utf8.hpp"
#include "lib/tokenizer/byte_level.hpp"
#include "lib/tokenizer/normalizer.hpp"

namespace plumb {

namespace {

constexpr int kMaxDepth = 16;
constexpr std::string_view kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Includes the joiners U+200C and U+200D, unlike \w elsewhere.
constexpr std::string_view kWordsOrSymbols =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200C\u200D]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200C\u200D\s]+)";
constexpr std::string_view kPunctuation = R"([\p{P}$+<=>^`|~])";

SplitBehavior parse_behavior(const Json& value, std::string_view where) {
  const std::string name = optional_string_field(value, "behavior", where).value_or("Isolated");
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  throw_error<DataError>(
      "{}: behavior: expected one of Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous, got {}", where,
      name);
}

void parse_into(std::vector<PreTokenizerStep>& steps, const Json& value, std::string_view where, int depth) {
  if (value.is_null()) return;
  if (depth > kMaxDepth) throw_error<DataError>("{}: sequences nested more than {} deep", where, kMaxDepth);
  const std::string type = string_field(value, "type", where);
  if (type == "Sequence") {
    for (const Json& part : array_field(value, "pretokenizers", where)) parse_into(steps, part, where, depth + 1);
  } else if (type == "ByteLevel") {
    ByteLevelStep step{bool_field(value, "add_prefix_space", true, where), {}};
    if (bool_field(value, "use_regex", true, where)) step.pattern = Pattern::regex(kGpt2Words, where);
    steps.emplace_back(std::move(step));
  } else if (type == "Split") {
    steps.emplace_back(SplitStep{parse_pattern(field_or_null(value, "pattern", where), where),
                                 parse_behavior(value, where), bool_field(value, "invert", false, where)});
  } else if (type == "Metaspace") {
    steps.emplace_back(make_metaspace(parse_replacement(value, where), parse_prepend_scheme(value, where),
                                      bool_field(value, "split", true, where), where));
  } else if (type == "Digits") {
    const bool is_individual = bool_field(value, "individual_digits", false, where);
    steps.emplace_back(SplitStep{Pattern::regex("\\p{N}", where),
                                 is_individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false});
  } else if (type == "Whitespace") {
    steps.emplace_back(SplitStep{Pattern::regex(kWordsOrSymbols, where), SplitBehavior::kRemoved, true});
  } else if (type == "WhitespaceSplit") {
    steps.emplace_back(SplitStep{Pattern::regex("\\s", where), SplitBehavior::kRemoved, false});
  } else if (type == "Punctuation") {
    steps.emplace_back(SplitStep{Pattern::regex(kPunctuation, where), parse_behavior(value, where), false});
  } else {
    throw_error<DataError>(
        "{}: type: expected one of Sequence, ByteLevel, Split, Metaspace, Digits, Whitespace, WhitespaceSplit, "
        "Punctuation, got {}",
        where, type);
  }
}

struct Part {
  size_t begin, end;
  bool is_delimiter;
};

// Splits all of `text` into alternating delimiters and other parts.
void find_parts(const SplitStep& step, std::string_view text, std::vector<ByteRange>& matches,
                std::vector<Part>& parts) {
  step.pattern.find_all(text, matches);
  parts.clear();
  size_t at = 0;
  for (const ByteRange& match : matches) {
    if (at != match.begin) parts.push_back({at, match.begin, step.is_inverted});
    parts.push_back({match.begin, match.end, !step.is_inverted});
    at = match.end;
  }
  if (at != text.size()) parts.push_back({at, text.size(), step.is_inverted});
}

// Merges each part for which `joins(part, follows_delimiter)` holds into the one before it.
template <class Joins>
void join_parts(std::vector<Part>& parts, Joins joins) {
  size_t kept = 0;
  bool follows_delimiter = false;
  for (const Part part : parts) {
    if (kept > 0 && joins(part, follows_delimiter)) {
      parts[kept - 1].begin = std::min(parts[kept - 1].begin, part.begin);
      parts[kept - 1].end = std::max(parts[kept - 1].end, part.end);
    } else {
      parts[kept++] = part;
    }
    follows_delimiter = part.is_delimiter;
  }
  parts.resize(kept);
}

void treat_delimiters(SplitBehavior behavior, std::vector<Part>& parts) {
  const auto is_first_delimiter = [](const Part& part, bool follows) { return part.is_delimiter && !follows; };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      std::erase_if(parts, [](const Part& part) { return part.is_delimiter; });
      break;
    case SplitBehavior::kContiguous:
      join_parts(parts, [](const Part& part, bool follows) { return part.is_delimiter == follows; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      join_parts(parts, is_first_delimiter);
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(parts.begin(), parts.end());
      join_parts(parts, is_first_delimiter);
      std::reverse(parts.begin(), parts.end());
      break;
  }
}

void apply(const SplitStep& step, Pieces& pieces) {
  std::vector<ByteRange> matches;
  std::vector<Part> parts;
  std::vector<ByteRange> ranges;
  bool starts_input = pieces.starts_input;
  for (size_t i = 0; i < pieces.ranges.size(); ++i) {
    const size_t base = pieces.ranges[i].begin;
    find_parts(step, pieces.piece(i), matches, parts);
    treat_delimiters(step.behavior, parts);
    std::erase_if(parts, [](const Part& part) { return part.begin == part.end; });
    if (i == 0 && (parts.empty() || parts[0].begin != 0)) starts_input = false;
    for (const Part& part : parts) ranges.push_back({base + part.begin, base + part.end});
  }
  pieces.ranges = std::move(ranges);
  pieces.starts_input = starts_input;
}

// Rebuilds the text from its rewritten pieces.
template <class Rewrite>
void rewrite_pieces(Pieces& pieces, Rewrite rewrite) {
  std::string text;
  text.reserve(pieces.text.size() + pieces.text.size() / 4 + 8);
  std::vector<ByteRange> ranges;
  ranges.reserve(pieces.ranges.size());
  for (size_t i = 0; i < pieces.ranges.size(); ++i) {
    const size_t begin = text.size();
    rewrite(i, pieces.piece(i), text);
    ranges.push_back({begin, text.size()});
  }
  pieces.text = std::move(text);
  pieces.ranges = std::move(ranges);
}

void apply(const ByteLevelStep& step, Pieces& pieces) {
  if (step.adds_prefix_space) {
    rewrite_pieces(pieces, [](size_t, std::string_view piece, std::string& text) {
      if (!piece.starts_with(' ')) text += ' ';
      text += piece;
    });
  }
  if (step.pattern) apply(SplitStep{*step.pattern, SplitBehavior::kIsolated, false}, pieces);
  rewrite_pieces(pieces, [](size_t, std::string_view piece, std::string& text) { append_byte_level(text, piece); });
}

void apply(const MetaspaceStep& step, Pieces& pieces) {
  std::vector<ByteRange> spaces;
  rewrite_pieces(pieces, [&](size_t i, std::string_view piece, std::string& text) {
    const bool is_prefixed = step.scheme == PrependScheme::kAlways ||
                             (step.scheme == PrependScheme::kFirst && i == 0 && pieces.starts_input);
    if (is_prefixed && !piece.starts_with(' ') && !piece.starts_with(step.replacement)) text += step.replacement;
    step.space.find_all(piece, spaces);
    size_t at = 0;
    for (const ByteRange& space : spaces) {
      text.append(piece, at, space.begin - at);
      text += step.replacement;
      at = space.end;
    }
    text.append(piece, at);
  });
  if (step.delimiter) apply(SplitStep{*step.delimiter, SplitBehavior::kMergedWithNext, false}, pieces);
}

}  // namespace

std::string parse_replacement(const nlohmann::json& value, std::string_view where) {
  std::string replacement = string_field(value, "replacement", where);
  if (replacement.empty() || code_point_at(replacement, 0).size_bytes != replacement.size()) {
    throw_error<DataError>("{}: replacement: expected one character, got '{}'", where, replacement);
  }
  return replacement;
}

PrependScheme parse_prepend_scheme(const nlohmann::json& value, std::string_view where) {
  const bool adds_prefix_space = bool_field(value, "add_prefix_space", true, where);
  const std::string name =
      optional_string_field(value, "prepend_scheme", where).value_or(adds_prefix_space ? "always" : "never");
  if (!adds_prefix_space && name != "never") {
    throw_error<DataError>("{}: add_prefix_space is false but prepend_scheme is {}", where, name);
  }
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  throw_error<DataError>("{}: prepend_scheme: expected always, first or never, got {}", where, name);
}

MetaspaceStep make_metaspace(std::string replacement, PrependScheme scheme, bool splits, std::string_view where) {
  MetaspaceStep step{Pattern::literal(" ", where), std::move(replacement), {}, scheme};
  if (splits) step.delimiter = Pattern::literal(step.replacement, where);
  return step;
}

std::vector<PreTokenizerStep> parse_pre_tokenizer(const nlohmann::json& value, std::string_view where) {
  std::vector<PreTokenizerStep> steps;
  parse_into(steps, value, where, 0);
  return steps;
}

void pre_tokenize(const std::vector<PreTokenizerStep>& steps, Pieces& pieces) {
  const size_t limit = growth_limit_bytes(pieces.text.size());
  for (const PreTokenizerStep& step : steps) {
    std::visit([&](const auto& kind) { apply(kind, pieces); }, step);
    check_growth(pieces.text.size(), limit);
  }
}

}  // namespace plumb
