#include "apps/rewards/reward_program.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "apps/rewards/child_process.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "lib/base/strict_json.hpp"

namespace plumb {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// Failures of one call after which no further request is tried: a run should not wait for each of a thousand.
int64_t most_failures(size_t num_requests) { return std::max<int64_t>(3, static_cast<int64_t>(num_requests / 10) + 1); }

/// A line that is no answer.
struct BadAnswer : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Answer {
  std::optional<size_t> id;  // none: of the oldest request
  double reward = kNone;
};

double reward_of(const nlohmann::json& value) {
  if (value.is_null()) return kNone;
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    throw BadAnswer(fmt::format("expected a finite number or null, got {}", value.type_name()));
  return value.get<double>();
}

/// A number, null, or {"id": ..., "reward": ...}.
Answer parse_answer(const std::string& line) {
  const auto fail = [](std::optional<size_t>, const std::string& reason) { throw BadAnswer(reason); };
  const auto value = parse_strict_json<nlohmann::json>(line, fail);
  if (!value.is_object()) return {std::nullopt, reward_of(value)};
  for (const auto& [key, ignored] : value.items())
    if (key != "id" && key != "reward")
      throw BadAnswer(fmt::format("expected the keys id and reward, got \"{}\"", key.substr(0, 80)));
  const auto id = value.find("id"), reward = value.find("reward");
  if (id == value.end() || reward == value.end() || !id->is_number_unsigned())
    throw BadAnswer("expected an object with the id of the request and a reward");
  return {id->get<size_t>(), reward_of(*reward)};
}

std::string request_line(size_t id, const RewardRequest& request) {
  const nlohmann::ordered_json line = {{"id", id},
                                       {"prompt", request.prompt},
                                       {"completion", request.completion},
                                       {"truncated", request.is_truncated},
                                       {"num_tokens", request.num_tokens},
                                       {"row", request.row}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ChildOptions child_options(const RewardProgramOptions& options, const std::string& log_path) {
  ChildOptions child{.command = split_command(options.command, "--reward_program"),
                     .log_path = log_path,
                     .max_memory_mb = options.max_memory_mb};
  if (options.wrapper.empty()) return child;
  std::vector<std::string> wrapper = split_command(options.wrapper, "--reward_wrapper");
  child.command.insert(child.command.begin(), wrapper.begin(), wrapper.end());
  return child;
}

}  // namespace

int64_t ProgramRewards::num_failures() const {
  return std::count_if(failures.begin(), failures.end(), [](const std::string& why) { return !why.empty(); });
}

/// The running program and the requests of one call that it has not answered.
class RewardProgram::Process {
 public:
  explicit Process(const ChildOptions& options) : child_(options) {}

  /// Sends all requests without an answer, and takes answers until there are none left. Returns why the oldest of
  /// them failed, or "" when all have answers.
  std::string answer(std::span<const RewardRequest> requests, std::vector<std::optional<double>>& rewards,
                     double timeout_seconds) {
    for (size_t i = 0; i < requests.size(); ++i)
      if (!rewards[i]) child_.send(request_line(i, requests[i]));
    const auto is_open = [&](const std::optional<double>& reward) { return !reward.has_value(); };
    for (;;) {
      const auto oldest = std::find_if(rewards.begin(), rewards.end(), is_open);
      if (oldest == rewards.end()) return "";
      const ChildProcess::Event event = child_.wait(steady_seconds() + timeout_seconds);
      if (event != ChildProcess::Event::kLine) return reason_of(event, timeout_seconds);
      try {
        const Answer answer = parse_answer(child_.line());
        const size_t id = answer.id.value_or(static_cast<size_t>(oldest - rewards.begin()));
        if (id >= rewards.size() || rewards[id]) throw BadAnswer(fmt::format("no request with id {} is open", id));
        rewards[id] = answer.reward;
      } catch (const BadAnswer& error) {
        return fmt::format("it answered \"{}\": {}", child_.line().substr(0, 80), error.what());
      }
    }
  }

  /// False if it has ended since the last call, or has written what answers nothing, which is reported.
  bool is_ready() {
    const bool is_ready = child_.is_ready();
    if (child_.has_unread())
      log_warning("--reward_program: wrote lines that answer nothing; it is started again (one line per request)");
    return is_ready;
  }

 private:
  std::string reason_of(ChildProcess::Event event, double timeout_seconds) {
    if (event == ChildProcess::Event::kTimeout) return fmt::format("no answer within {} s", timeout_seconds);
    if (event == ChildProcess::Event::kTooLong)
      return fmt::format("a line of more than {} bytes", ChildProcess::kMaxLineBytes);
    return "it ended before it answered: " + child_.how_it_ended();
  }

  ChildProcess child_;
};

RewardProgram::RewardProgram(const RewardProgramOptions& options, std::string log_path)
    : options_(options), log_path_(std::move(log_path)) {}

RewardProgram::~RewardProgram() = default;

ProgramRewards RewardProgram::operator()(std::span<const RewardRequest> requests) {
  ProgramRewards result{.rewards = std::vector<double>(requests.size(), kNone),
                        .failures = std::vector<std::string>(requests.size())};
  if (process_ && !process_->is_ready()) process_.reset();
  std::vector<std::optional<double>> rewards(requests.size());
  for (int64_t num_failed = 0; std::count(rewards.begin(), rewards.end(), std::nullopt) > 0;) {
    if (!process_) process_ = std::make_unique<Process>(child_options(options_, log_path_));
    const std::string why = process_->answer(requests, rewards, options_.timeout_seconds);
    if (why.empty()) break;
    process_.reset();
    if (options_.on_error == OnRewardError::kStop)
      throw_error<DataError>("--reward_program: {}; its messages are in {}", why, log_path_);
    const bool gives_up = ++num_failed >= most_failures(requests.size());
    if (num_failed == 1 || gives_up)
      log_warning("--reward_program: {}; {} no reward; see {}", why,
                  gives_up ? "this often that the completions that are left have" : "the completion has", log_path_);
    for (size_t i = 0, marked = 0; i < rewards.size() && (gives_up || marked == 0); ++i) {
      if (rewards[i]) continue;
      rewards[i] = kNone;
      result.failures[i] = why;
      ++marked;
    }
  }
  for (size_t i = 0; i < rewards.size(); ++i) result.rewards[i] = *rewards[i];
  return result;
}

}  // namespace plumb
