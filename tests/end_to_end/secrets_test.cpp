// Secrets are never printed or written: neither the environment nor credentials in options.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCanary = "c4n4ry";

class Secrets : public ProgramTest {
 protected:
  static void expect_no_canary(const std::string& text, const std::string& where) {
    EXPECT_EQ(text.find(kCanary), std::string::npos) << where << ": " << text.substr(0, 2000);
  }
  static void expect_no_canary(const RunResult& result) {
    expect_no_canary(result.out, "standard output");
    expect_no_canary(result.err, "standard error");
    expect_no_canary(result.launcher, "the launcher");
  }
  int num_files_without_canary(const std::string& directory) const {
    int num_files = 0;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory_ / directory)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      expect_no_canary({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}, entry.path());
      ++num_files;
    }
    return num_files;
  }
};

TEST_F(Secrets, OfTheEnvironmentStayThere) {
  RunOptions options;
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "PASSWORD"})
    options.environment[name] = std::string("hf_") + kCanary + "AbCdEfGhIjKlMnOpQr";
  const RunResult result = train("sft", 2, {{"save_steps", "1"}}, options);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  expect_no_canary(result);
  EXPECT_GT(num_files_without_canary("out"), 5);
  options.environment["PLUMB_FAULT"] = "no fault";  // nothing is leaked by a failure either
  expect_no_canary(train("sft", 2, {{"model", "nowhere"}}, options));
}

TEST_F(Secrets, OfOptionsAreHidden) {
  const std::string url = std::string("https://user:") + kCanary + "@host/rows.jsonl?sig=" + kCanary;
  const RunResult refused = train("sft", 0, {{"data", url}});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_NE(refused.err.find("https://***@host/rows.jsonl?***"), std::string::npos) << refused.err;
  expect_no_canary(refused);

  const fs::path folder = directory_ / (std::string("hf_") + kCanary + "AbCdEfGhIjKlMnOpQr");
  fs::create_directory(folder);
  fs::copy(directory_ / "rows.jsonl", folder / "rows.jsonl");
  const RunResult result = train("sft", 0, {{"data", folder / "rows.jsonl"}, {"save_steps", "1"}});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  expect_no_canary(result);
  EXPECT_GT(num_files_without_canary("out"), 5);
}

}  // namespace
}  // namespace plumb::test
