// Runs on any number of ranks; what is expected does not depend on it.
#include "io/dataset/prepare.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "io/dataset/prepare_key.hpp"
#include "lib/base/check.hpp"
#include "tests/io/dataset/prepare_test.hpp"
#include "tests/support/compress.hpp"

namespace plumb {
namespace {

namespace fs = std::filesystem;

TokenRows expected_numbered_rows(int end) {
  TokenRows rows;
  for (int i = 0; i < end; ++i) {
    const std::string prompt = fmt::format("p{}", i), text = prompt + std::string(i % 5, 'c');
    std::vector<int32_t> tokens;
    for (const char c : text) tokens.push_back(byte_id(c));
    tokens.push_back(kEosId);
    std::vector<uint8_t> mask(tokens.size(), 1);
    std::fill_n(mask.begin(), prompt.size(), uint8_t{0});
    rows.add(tokens, mask, i);
  }
  return rows;
}

TEST_F(PrepareTest, RowsOfAllFilesComeInOrderWhoeverTokenizedThem) {
  options_.files = {write("a.jsonl", numbered_rows(0, 7)), write("b.json.zst", zstd(numbered_rows(7, 8))),
                    write("c.jsonl.gz", gzip(numbered_rows(8, 30)))};
  const DatasetIndex index = prepare();
  EXPECT_EQ(index.rows_of_files, (std::vector<int64_t>{7, 1, 22}));
  EXPECT_EQ(index.shards.size(), static_cast<size_t>(comm_.size()));
  EXPECT_EQ(rows_of(index), expected_numbered_rows(30));
  EXPECT_EQ(index.statistics.num_rows_read, 30);
  EXPECT_EQ(index.num_rows(), 30);
  for (const ShardEntry& shard : index.shards) {
    EXPECT_NO_THROW(check_shard_hash(dataset_directory(at("data"), index), shard));
    EXPECT_LE(shard.num_rows, 30 / comm_.size() + 1);
  }
  EXPECT_EQ(num_results(), 1u);
}

TEST_F(PrepareTest, ThereMayBeFewerRowsThanRanks) {
  options_.files = {write("a.jsonl", numbered_rows(0, 1))};
  const DatasetIndex index = prepare();
  EXPECT_EQ(index.shards.size(), static_cast<size_t>(comm_.size()));
  EXPECT_EQ(rows_of(index), expected_numbered_rows(1));
}

TEST_F(PrepareTest, FilesMayHaveDifferentShapes) {
  options_.files = {write("a.csv", "text\n\"one\ntwo\"\n"), write("b.jsonl", numbered_rows(0, 1))};
  const TokenRows rows = rows_of(prepare());
  ASSERT_EQ(rows.num_rows(), 2);
  EXPECT_EQ(rows.offsets, (std::vector<int64_t>{0, 8, 11}));
  EXPECT_EQ(rows.loss_mask, (std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1}));
}

TEST_F(PrepareTest, ANullCellIsNoCell) {
  // each row is rendered by the columns that it has
  options_.files = {write("a.jsonl",
                          "{\"prompt\": \"p\", \"completion\": \"c\", \"text\": null}\n"
                          "{\"prompt\": null, \"completion\": null, \"text\": \"t\"}\n")};
  const TokenRows rows = rows_of(prepare());
  EXPECT_EQ(rows.offsets, (std::vector<int64_t>{0, 3, 5}));
  EXPECT_EQ(rows.loss_mask, (std::vector<uint8_t>{0, 1, 1, 1, 1}));
  options_.files = {write("b.jsonl", "{\"text\": \"a\"}\n{\"text\": null}\n")};
  EXPECT_NE(refusal(kExitData).find("b.jsonl:2: row 1: column \"text\": expected text, got null"), std::string::npos);
}

TEST_F(PrepareTest, MessagesThatTheTemplateOmitsAreCounted) {
  write("tokenizer_config.json", R"({"eos_token": "</s>", "chat_template":
      "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"})");
  options_.files = {write("a.jsonl",
                          "{\"question\": \"q\", \"answer\": \"a\"}\n"
                          "{\"question\": \"q\", \"answer\": \"a\", \"system\": \"s\"}\n")};
  const RowTally omitted = prepare().statistics.omitted_message;
  EXPECT_EQ(omitted.num_rows, 1);
  EXPECT_EQ(omitted.first_places, std::vector<std::string>{at("a.jsonl") + ":2"});
}

TEST_F(PrepareTest, RowsThatMayBeAMistakeAreCounted) {
  options_.files = {write("a.jsonl",
                          "{\"prompt\": \"p</s>\", \"completion\": \"c\"}\n"
                          "{\"prompt\": \" \", \"completion\": \"c\"}\n")};
  const DatasetIndex index = prepare();
  EXPECT_EQ(index.statistics.spelled_control_token.first_places, std::vector<std::string>{at("a.jsonl") + ":1 </s>"});
  EXPECT_EQ(index.statistics.blank_question.first_places, std::vector<std::string>{at("a.jsonl") + ":2"});
  EXPECT_EQ(DatasetIndex::from_text(index.to_text(), "index.json"), index);
}

TEST_F(PrepareTest, StatisticsSayWhatBecameOfEachRow) {
  options_.files = {write("a.csv",
                          "prompt,completion\n"
                          "pp,c\n"       // 4 tokens, 2 trained
                          "\"p\np\",\n"  // lines 3 and 4: EOS alone
                          "ppppp,c\n"    // its prompt fills the row: nothing to learn
                          "p,cccc\n"     // truncated
                          "ppppppp,c\n")};
  options_.sft.max_length = 5;
  const PrepareStatistics statistics = prepare().statistics;
  EXPECT_EQ(statistics.num_rows_read, 5);
  EXPECT_EQ(statistics.num_rows_kept, 3);
  EXPECT_EQ(statistics.dropped_nothing_to_learn.num_rows, 2);
  EXPECT_EQ(statistics.dropped_nothing_to_learn.first_places,
            (std::vector<std::string>{at("a.csv") + ":5", at("a.csv") + ":7"}));
  EXPECT_EQ(statistics.dropped_empty.num_rows, 0);
  EXPECT_EQ(statistics.prompt_not_prefix.num_rows, 0);
  EXPECT_EQ(statistics.num_rows_truncated, 1);
  EXPECT_EQ(statistics.num_rows_ending_in_trained_eos, 2);
  EXPECT_EQ(statistics.num_tokens, 4 + 4 + 5);
  EXPECT_EQ(statistics.num_trained_tokens, 2 + 1 + 4);
  EXPECT_EQ(statistics.max_row_tokens, 5);
  EXPECT_EQ(statistics.max_token_id, byte_id('p'));
  EXPECT_EQ(statistics.length_histogram[2], 3);
}

TEST_F(PrepareTest, StatisticsAndRowsDoNotDependOnTheNumberOfRanks) {
  options_.files = {write("a.jsonl", numbered_rows(0, 23))};
  options_.sft.max_length = 4;
  // by hand: rows 10.. have prompts of 3 tokens; completions of i % 5, then EOS
  const PrepareStatistics statistics = prepare().statistics;
  EXPECT_EQ(statistics.num_rows_kept, 23);
  EXPECT_EQ(statistics.num_rows_truncated, 6 + 10);
  EXPECT_EQ(statistics.max_row_tokens, 4);
  EXPECT_EQ(statistics.length_histogram[1], 2);
  EXPECT_EQ(statistics.length_histogram[2], 21);
}

TEST_F(PrepareTest, TheSameInputsAreNotTokenizedAgain) {
  options_.files = {write("a.jsonl", numbered_rows(0, 9))};
  const DatasetIndex first = prepare();
  const std::string path = dataset_directory(at("data"), first) + "/" + first.shards[0].file;
  const fs::file_time_type time = fs::last_write_time(path);
  comm_.barrier();
  // another path with the same contents
  options_.files = {write("b.jsonl", numbered_rows(0, 9))};
  EXPECT_EQ(prepare(), first);
  EXPECT_EQ(fs::last_write_time(path), time);
  EXPECT_EQ(num_results(), 1u);
}

TEST_F(PrepareTest, TheKeyChangesWithEverythingThatTokensDependOn) {
  const auto key = [&] { return key_of(describe_inputs(comm_, options_)); };
  const std::string a = write("a.jsonl", numbered_rows(0, 9)), b = write("b.jsonl", numbered_rows(0, 8));
  options_.files = {a, b};
  std::vector<std::string> keys = {key()};
  const auto add_key_of = [&](auto change) {
    const PrepareOptions before = options_;
    change();
    keys.push_back(key());
    options_ = before;
  };
  add_key_of([&] { options_.files = {b, a}; });
  add_key_of([&] { options_.files = {a}; });
  add_key_of([&] { options_.files = {a, write("b.csv", numbered_rows(0, 8))}; });  // read as another format
  add_key_of([&] { options_.sft.max_length = 5; });
  add_key_of([&] { options_.sft.completion_only_loss = true; });
  add_key_of([&] { options_.sft.completion_only_loss = false; });
  add_key_of([&] { options_.sft.assistant_only_loss = true; });
  add_key_of([&] { options_.sft.parses_special_tokens = true; });
  add_key_of([&] { options_.use = RowUse::kPreference; });
  add_key_of([&] { options_.use = RowUse::kPreference, options_.pair.max_length = 5; });
  add_key_of([&] { options_.use = RowUse::kPreference, options_.pair.drops_long_pairs = true; });
  add_key_of([&] { options_.use = RowUse::kPreference, options_.pair.parses_special_tokens = true; });
  add_key_of([&] { options_.template_name = "chatml"; });
  add_key_of([&] { options_.template_variables = R"({"a": 1})"; });
  add_key_of([&] { options_.columns = {{"prompt", "x"}}; });
  add_key_of([&] { options_.tokenizer.behavior = TokenizerBehavior::kTransformers4; });
  write("b.jsonl", numbered_rows(1, 9));
  keys.push_back(key());
  write("chat_template.jinja", "x");
  keys.push_back(key());
  write("config.json", R"({"model_type": "llama"})");
  keys.push_back(key());
  std::string keys_of_rank0 = fmt::format("{}", fmt::join(keys, ","));
  comm_.broadcast(keys_of_rank0);
  EXPECT_EQ(fmt::format("{}", fmt::join(keys, ",")), keys_of_rank0);
  for (const std::string& one : keys) EXPECT_EQ(std::count(keys.begin(), keys.end(), one), 1) << one;
}

TEST_F(PrepareTest, TheKeyOfALargeFileIsThatOfAnyNumberOfRanks) {
  // three blocks, hashed by different ranks
  options_.files = {write("a.jsonl", std::string(9 << 20, 'x'))};
  const nlohmann::json file = describe_inputs(comm_, options_).at("files").at(0);
  EXPECT_EQ(file.at("bytes"), 9 << 20);
  EXPECT_EQ(file.at("xxh3"), "f2ff75f57293a4e0");
}

TEST_F(PrepareTest, ADamagedResultIsMadeAgain) {
  options_.files = {write("a.jsonl", numbered_rows(0, 9))};
  const DatasetIndex first = prepare();
  const std::string name = "data/" + first.key + "/" + first.shards.back().file;
  const std::string bytes = read(name);
  comm_.barrier();
  std::string flipped = bytes;
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 1);
  for (const std::string& damaged : {bytes.substr(0, bytes.size() - 1), flipped, std::string()}) {
    write(name, damaged);
    EXPECT_EQ(prepare(), first);
    EXPECT_EQ(rows_of(first), expected_numbered_rows(9));
    comm_.barrier();
  }
  write("data/" + first.key + "/index.json", "{");
  EXPECT_EQ(prepare(), first);
  EXPECT_EQ(num_results(), 1u);
}

TEST_F(PrepareTest, WhatAKilledRunLeftIsRemoved) {
  options_.files = {write("a.jsonl", numbered_rows(0, 9))};
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  // process ids end at 2^22; of another host nobody knows
  const std::string key(32, 'a');
  if (comm_.rank() == 0) {
    fs::create_directories(at(fmt::format("data/{}.tmp-{}-2000000000", key, host)));
    fs::create_directories(at(fmt::format("data/{}.tmp-elsewhere-2000000000", key)));
    fs::create_directories(at(fmt::format("data/{}.tmp-{}-{}", key, host, ::getppid())));
    fs::create_directories(at(fmt::format("data/mine.tmp-{}-2000000000", host)));
  }
  prepare();
  EXPECT_EQ(num_results(), 4u);
}

TEST_F(PrepareTest, ABadRowOnAnyRankIsAnErrorOnAll) {
  for (const int bad : {0, 4, 8}) {
    std::string text = numbered_rows(0, bad) + R"({"prompt": 3, "completion": "c"})" + "\n" + numbered_rows(bad, 8);
    if (bad == 0) text = numbered_rows(0, 1) + text;  // the first row tells the shape
    options_.files = {write("a.jsonl", text)};
    const int row = bad == 0 ? 1 : bad;
    const std::string message = refusal(kExitData);
    EXPECT_TRUE(message.starts_with(fmt::format("{}:{}: row {}", at("a.jsonl"), row + 1, row))) << message;
    EXPECT_EQ(num_results(), 0u);
  }
}

TEST_F(PrepareTest, WithoutRowsToTrainOnItSaysWhy) {
  options_.files = {write("a.jsonl", numbered_rows(0, 9))};
  options_.sft.max_length = 2;
  const std::string message = refusal(kExitData);
  EXPECT_NE(message.find("kept none of 9"), std::string::npos) << message;
  EXPECT_NE(message.find(at("a.jsonl") + ":1, "), std::string::npos) << message;
  EXPECT_NE(message.find("9 with nothing to learn"), std::string::npos) << message;
  EXPECT_EQ(num_results(), 0u);
}

TEST_F(PrepareTest, ATokenizerLargerThanTheEmbeddingMattersIfItsIdsOccur) {
  options_.files = {write("a.jsonl", numbered_rows(0, 9))};
  options_.vocab_size = byte_id('p');  // as a limit it allows c and digits, but not p
  const std::string message = refusal(kExitData);
  EXPECT_NE(message.find("larger than the model"), std::string::npos) << message;
  options_.vocab_size = byte_id('p') + 1;
  EXPECT_LT(options_.vocab_size, kByteVocabSize);
  EXPECT_EQ(prepare().num_rows(), 9);
  // prepared before, for a model with more rows
  options_.vocab_size = byte_id('p');
  EXPECT_NE(refusal(kExitData).find("below 115, the rows of the embedding, got 115"), std::string::npos);
}

TEST_F(PrepareTest, MissingFilesAreErrorsOnAllRanks) {
  EXPECT_NE(refusal(kExitUsage).find("at least one file"), std::string::npos);
  options_.files = {at("missing.jsonl")};
  EXPECT_TRUE(refusal(kExitInputOutput).starts_with(at("missing.jsonl")));
  options_.files = {write("empty.jsonl", "")};
  EXPECT_TRUE(refusal(kExitData).starts_with(at("empty.jsonl")));
  options_.files = {write("a.jsonl", numbered_rows(0, 9))};
  options_.tokenizer.model = at("no-model");
  EXPECT_TRUE(refusal(kExitInputOutput).starts_with(at("no-model")));
  EXPECT_EQ(num_results(), 0u);
}

TEST_F(PrepareTest, OptionsThatDoNotFitTheRowsAreUsageErrors) {
  options_.files = {write("a.jsonl", "{\"text\": \"abc\"}\n")};
  options_.sft.completion_only_loss = true;
  EXPECT_NE(refusal(kExitUsage).find("completion_only_loss"), std::string::npos);
  options_.sft.completion_only_loss.reset();
  options_.template_name = "nosuch";
  EXPECT_NE(refusal(kExitUsage).find("nosuch"), std::string::npos);
  EXPECT_EQ(num_results(), 0u);
}

}  // namespace
}  // namespace plumb
