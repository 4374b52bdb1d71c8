#include "io/records/rollouts.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "io/file/json_lines_writer.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::array kKeys = {"round",     "row",      "prompt_ids",     "completion_ids", "rewards",        "text",
                              "truncated", "old_logp", "reference_logp", "old_logps",      "reference_logps"};

[[noreturn]] void refuse(std::string_view where, std::string_view key, std::string_view expected,
                         const OrderedJson& got) {
  throw_error<DataError>("{}: {}: expected {}, got {}", where, key, expected,
                         got.is_number() ? got.dump() : got.type_name());
}

const OrderedJson& field(const OrderedJson& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end())
    throw_error<DataError>("{}: expected the key {}; a rollout has round, row, prompt_ids, completion_ids and rewards",
                           where, key);
  return *found;
}

/// An integer of at least 0 that is below the limit.
int64_t integer(const OrderedJson& value, int64_t limit, const char* key, std::string_view expected,
                std::string_view where) {
  const bool is_in_range = value.is_number_integer() &&
                           (value.is_number_unsigned() ? value.get<uint64_t>() < static_cast<uint64_t>(limit)
                                                       : value.get<int64_t>() >= 0 && value.get<int64_t>() < limit);
  if (!is_in_range) refuse(where, key, expected, value);
  return value.get<int64_t>();
}

std::vector<int32_t> token_ids(const OrderedJson& object, const char* key, int64_t vocab_size, std::string_view where) {
  const OrderedJson& values = field(object, key, where);
  if (!values.is_array() || values.empty()) refuse(where, key, "an array of at least one token id", values);
  const std::string expected = fmt::format("token ids from 0 to {}, which the model has", vocab_size - 1);
  std::vector<int32_t> ids;
  for (const OrderedJson& value : values)
    ids.push_back(static_cast<int32_t>(integer(value, vocab_size, key, expected, where)));
  return ids;
}

double finite(const OrderedJson& value, const char* key, std::string_view expected, std::string_view where) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) refuse(where, key, expected, value);
  return value.get<double>();
}

std::vector<double> rewards(const OrderedJson& object, std::string_view where) {
  const OrderedJson& values = field(object, "rewards", where);
  if (!values.is_array() || values.empty())
    refuse(where, "rewards", "an array of one number or null per reward", values);
  std::vector<double> rewards;
  for (const OrderedJson& value : values)
    rewards.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                      : finite(value, "rewards", "numbers that are finite, or null", where));
  return rewards;
}

std::optional<double> logp(const OrderedJson& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  return finite(*found, key, "a finite number", where);
}

/// One number per token of the completion; none if the key is absent.
std::vector<float> token_logps(const OrderedJson& object, const char* key, size_t num_tokens, std::string_view where) {
  std::vector<float> logps;
  const auto found = object.find(key);
  if (found == object.end()) return logps;
  if (!found->is_array() || found->size() != num_tokens)
    refuse(where, key, fmt::format("an array of {} numbers, one per token of the completion", num_tokens), *found);
  for (const OrderedJson& value : *found) {
    logps.push_back(static_cast<float>(finite(value, key, "finite numbers", where)));
    if (!std::isfinite(logps.back())) refuse(where, key, "numbers that a float32 holds", value);
  }
  return logps;
}

}  // namespace

OrderedJson to_json(const Rollout& rollout) {
  OrderedJson rewards = OrderedJson::array();
  for (const double reward : rollout.rewards)
    rewards.push_back(std::isnan(reward) ? OrderedJson() : OrderedJson(reward));
  OrderedJson object = {{"round", rollout.round},
                        {"row", rollout.row},
                        {"prompt_ids", rollout.prompt_ids},
                        {"completion_ids", rollout.completion_ids},
                        {"rewards", rewards}};
  if (!rollout.text.empty()) object["text"] = rollout.text;
  if (rollout.is_truncated) object["truncated"] = *rollout.is_truncated;
  if (rollout.old_logp) object["old_logp"] = *rollout.old_logp;
  if (rollout.reference_logp) object["reference_logp"] = *rollout.reference_logp;
  if (!rollout.old_logps.empty()) object["old_logps"] = rollout.old_logps;
  if (!rollout.reference_logps.empty()) object["reference_logps"] = rollout.reference_logps;
  return object;
}

Rollout parse_rollout(const OrderedJson& object, int64_t vocab_size, std::string_view where) {
  if (!object.is_object()) refuse(where, "a rollout", "an object", object);
  for (const auto& [key, value] : object.items())
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
      throw_error<DataError>("{}: expected the keys {}, got \"{}\"", where, fmt::join(kKeys, ", "), key.substr(0, 120));
  constexpr int64_t kLimit = int64_t{1} << 53;  // of the integers that every reader of JSON keeps
  const auto number = [&](const char* key) {
    return integer(field(object, key, where), kLimit, key, "an integer of at least 0", where);
  };
  Rollout rollout{.round = number("round"),
                  .row = number("row"),
                  .prompt_ids = token_ids(object, "prompt_ids", vocab_size, where),
                  .completion_ids = token_ids(object, "completion_ids", vocab_size, where),
                  .rewards = rewards(object, where)};
  if (const auto text = object.find("text"); text != object.end()) {
    if (!text->is_string()) refuse(where, "text", "a string", *text);
    rollout.text = text->get<std::string>();
  }
  if (const auto truncated = object.find("truncated"); truncated != object.end()) {
    if (!truncated->is_boolean()) refuse(where, "truncated", "true or false", *truncated);
    rollout.is_truncated = truncated->get<bool>();
  }
  rollout.old_logp = logp(object, "old_logp", where);
  rollout.reference_logp = logp(object, "reference_logp", where);
  const size_t num_tokens = rollout.completion_ids.size();
  rollout.old_logps = token_logps(object, "old_logps", num_tokens, where);
  rollout.reference_logps = token_logps(object, "reference_logps", num_tokens, where);
  return rollout;
}

RolloutReader::RolloutReader(const std::string& path, int64_t vocab_size)
    : reader_(path, index_records(path)), vocab_size_(vocab_size) {
  next_ = read();
}

std::optional<RolloutReader::Read> RolloutReader::read() {
  const std::optional<Record> record = reader_.next();
  if (!record) return std::nullopt;
  std::string where = reader_.where(*record);
  Rollout rollout = parse_rollout(record->object, vocab_size_, where);
  return Read{std::move(rollout), std::move(where)};
}

std::vector<Rollout> RolloutReader::next_round() {
  std::vector<Rollout> round;
  where_.clear();
  while (next_ && (round.empty() || next_->rollout.round == round.front().round)) {
    if (num_rewards_.value_or(next_->rollout.rewards.size()) != next_->rollout.rewards.size())
      throw_error<DataError>("{}: rewards: expected {}, as many as in the first line, got {}", next_->where,
                             *num_rewards_, next_->rollout.rewards.size());
    num_rewards_ = next_->rollout.rewards.size();
    round.push_back(std::move(next_->rollout));
    where_.push_back(std::move(next_->where));
    next_ = read();
  }
  if (round.empty()) return round;
  if (round_size_.value_or(round.size()) != round.size())
    throw_error<DataError>("{}: round {}: expected {} completions, as many as in the first round, got {}",
                           where_.back(), round.front().round, *round_size_, round.size());
  round_size_ = round.size();
  if (next_ && next_->rollout.round != round.front().round + 1)
    throw_error<DataError>("{}: round: expected {} or {}, since rounds follow each other, got {}", next_->where,
                           round.front().round, round.front().round + 1, next_->rollout.round);
  return round;
}

std::string RolloutReader::where(size_t i) const { return where_.at(i); }

void write_rollouts(const std::string& path, const std::vector<Rollout>& rollouts) {
  JsonLinesWriter writer(path);
  for (const Rollout& rollout : rollouts) writer.append(to_json(rollout));
  writer.finish();
}

}  // namespace plumb
