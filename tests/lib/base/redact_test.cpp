// Secrets are hidden and other texts are not: messages about tokens of a vocabulary are no secrets.
#include "lib/base/redact.hpp"

#include <gtest/gtest.h>

namespace plumb {
namespace {

TEST(Redact, HidesWhatGivesAccess) {
  EXPECT_EQ(redact_secrets("https://user:c4n4ry@host/a/b.jsonl: cannot open"),
            "https://***@host/a/b.jsonl: cannot open");
  EXPECT_EQ(redact_secrets("s3://b/x?X-Amz-Signature=c4n4ry&a=b, then"), "s3://b/x?***, then");
  EXPECT_EQ(redact_secrets("https://c4n4ry@h?q=c4n4ry"), "https://***@h?***");
  EXPECT_EQ(redact_secrets("'hf_c4n4ryAbCdEfGhIjKlMn'"), "'hf_***'");
  EXPECT_EQ(redact_secrets("--model hf_c4n4ryAbCdEfGhIjKlMn/x"), "--model hf_***/x");
  EXPECT_EQ(redact_secrets("Authorization: Bearer c4n4ry end"), "Authorization: Bearer *** end");
  EXPECT_EQ(redact_secrets("HF_TOKEN=c4n4ry AWS_SECRET_ACCESS_KEY=\"c4n4ry\""),
            "HF_TOKEN=*** AWS_SECRET_ACCESS_KEY=\"***\"");
  EXPECT_EQ(redact_secrets("DB_PASSWORD=c4n4ry,x"), "DB_PASSWORD=***,x");
}

TEST(Redact, LeavesTheRest) {
  for (const std::string text :
       {"", "tokenizer.json: added_tokens: '<s>' has two ids", "--columns prompt=question,completion=answer",
        "hf_export and hf_model_of_a_long_directory_name", "see https://host/path#part", "eos_token=<|end|>", "?x=1",
        "a@b.c", "KEYS=3", "file:///data/x.jsonl", "task-sk-1"})
    EXPECT_EQ(redact_secrets(text), text);
}

}  // namespace
}  // namespace plumb
