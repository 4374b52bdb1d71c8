// Files of rollouts: what is accepted has a sane round and reads back as it was written.
#include <algorithm>
#include <vector>

#include "io/records/rollouts.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

namespace plumb::fuzz {

namespace {

constexpr int64_t kVocabSize = 100;

std::vector<Rollout> read_all(const std::string& path) {
  RolloutReader reader(path, kVocabSize);
  std::vector<Rollout> all;
  for (std::vector<Rollout> round = reader.next_round(); !round.empty(); round = reader.next_round()) {
    for (const Rollout& rollout : round) {
      require(rollout.round == round.front().round, "a round has one number");
      require(!rollout.prompt_ids.empty() && !rollout.completion_ids.empty() && !rollout.rewards.empty(),
              "a rollout has a prompt, a completion and rewards");
      for (const std::vector<int32_t>* ids : {&rollout.prompt_ids, &rollout.completion_ids})
        require(std::all_of(ids->begin(), ids->end(), [](int32_t id) { return id >= 0 && id < kVocabSize; }),
                "token ids are of the vocabulary");
    }
    all.insert(all.end(), round.begin(), round.end());
  }
  require(std::ssize(all) == reader.num_rollouts(), "all rollouts are in rounds");
  return all;
}

}  // namespace

bool accepts(std::string_view input) {
  const std::string path = input_directory().write("input.jsonl", input);
  std::vector<Rollout> rollouts;
  if (!is_accepted([&] { rollouts = read_all(path); })) return false;
  const std::string again = input_directory().write("again.jsonl", "");
  write_rollouts(again, rollouts);
  const std::vector<Rollout> rollouts_again = read_all(again);
  require(std::equal(rollouts.begin(), rollouts.end(), rollouts_again.begin(), rollouts_again.end(),
                     [](const Rollout& a, const Rollout& b) { return to_json(a) == to_json(b); }),
          "rollouts read back");
  return true;
}

}  // namespace plumb::fuzz
