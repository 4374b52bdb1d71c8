// SameBits for adapters on a frozen base of any dtype and kind: all logged metrics and the exported adapter have the
// same bits on any number of ranks and nodes.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/bits_test.hpp"

namespace plumb::test {
namespace {

class SameBitsOfAdapters : public BitsTest {};

TEST_P(SameBitsOfAdapters, OnAnyNumberOfRanksAndNodes) {
  EXPECT_EQ(outcome_of(3), one_rank_);
  EXPECT_EQ(outcome_of(6, {}, 4), one_rank_);  // a base in shards
}

INSTANTIATE_TEST_SUITE_P(
    Stage, SameBitsOfAdapters,
    testing::Values(BitsCase{"sft", "float32", "lora", {{"lora_r", "4"}}},
                    BitsCase{"sft",
                             "bfloat16",
                             "qlora_dora",
                             {{"lora_r", "4"},
                              {"quantize", "nf4"},
                              {"use_dora", "true"},
                              {"lora_target_modules", "all-linear"},
                              {"startup_checks", "false"}}},
                    BitsCase{"sft",
                             "float32",
                             "dropout_8bit",
                             {{"lora_r", "8"},
                              {"lora_dropout", "0.1"},
                              {"optim", "adamw_8bit"},
                              {"lora_target_modules", "all-linear"},
                              {"startup_checks", "false"}}},
                    BitsCase{"dpo", "float32", "lora", {{"lora_r", "4"}, {"startup_checks", "false"}}},
                    BitsCase{"reward", "float32", "lora", {{"lora_r", "4"}, {"startup_checks", "false"}}}),
    [](const auto& given) { return std::string(given.param.stage) + "_" + given.param.name; });

}  // namespace
}  // namespace plumb::test
