// Runs on any number of ranks; what is expected does not depend on it.
#include "io/dataset/content_hash.hpp"

#include <gtest/gtest.h>

#include "tests/support/shared_directory.hpp"

namespace plumb {
namespace {

class FileHashTest : public testing::Test {
 protected:
  FileHashTest() : directory_(comm_) {}
  std::string hash() { return model_hash(comm_, directory_.path()); }

  Communicator comm_;
  SharedDirectory directory_;
};

TEST_F(FileHashTest, AModelIsItsConfigurationAndWeights) {
  const std::string weights(9 << 20, 'w');  // several blocks
  directory_.write("config.json", "{}");
  directory_.write("b.safetensors", weights);
  directory_.write("a.safetensors", "");
  const std::string first = hash();
  EXPECT_EQ(first, "2799bc851969d4b9826e5a28cb544beb");
  directory_.write("tokenizer.json", "{}");
  EXPECT_EQ(hash(), first);
  directory_.write("config.json", "{ }");
  const std::string second = hash();
  EXPECT_NE(second, first);
  directory_.write("b.safetensors", weights.substr(1) + "x");
  EXPECT_NE(hash(), second);
  directory_.write("b.safetensors", weights);
  EXPECT_EQ(hash(), second);
  directory_.write("c.safetensors", "");
  EXPECT_NE(hash(), second);
}

TEST_F(FileHashTest, AMissingFileIsAnErrorOfAllRanks) {
  const std::string message = agreed_message_of(kExitInputOutput, [&] { hash(); });
  EXPECT_NE(message.find("config.json"), std::string::npos) << message;
  agreed_message_of(kExitInputOutput, [&] { model_hash(comm_, directory_ / "none"); });
}

}  // namespace
}  // namespace plumb
