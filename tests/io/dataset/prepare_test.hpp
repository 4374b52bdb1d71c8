// The fixture of tests of prepared data: a directory, a model in it, and rows.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>

#include "io/dataset/dataset.hpp"
#include "io/dataset/prepare.hpp"
#include "lib/base/check.hpp"
#include "tests/io/huggingface/byte_tokenizer.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {

/// A directory that all ranks share, with a model and a place for the result. Rank 0 writes, the others wait for it.
class PrepareTest : public testing::Test {
 protected:
  void SetUp() override {
    if (comm_.rank() == 0) owned_ = std::make_unique<TemporaryDirectory>();
    path_ = owned_ ? owned_->path() : "";
    comm_.broadcast(path_);
    write("tokenizer.json", byte_tokenizer_json());
    write("tokenizer_config.json", R"({"eos_token": "</s>"})");
    options_.tokenizer.model = path_;
  }
  void TearDown() override { comm_.barrier(); }

  std::string at(const std::string& name) const { return path_ + "/" + name; }
  /// Collective.
  std::string write(const std::string& name, const std::string& content) {
    if (owned_) owned_->write(name, content);
    comm_.barrier();
    return at(name);
  }
  std::string read(const std::string& name) const {
    std::ostringstream content;
    content << std::ifstream(at(name), std::ios::binary).rdbuf();
    return content.str();
  }
  /// Collective.
  DatasetIndex prepare() { return prepare_data(comm_, options_, at("data")); }
  /// Collective: names in the directory of results.
  size_t num_results() {
    comm_.barrier();
    const size_t num = std::filesystem::exists(at("data"))
                           ? static_cast<size_t>(std::distance(std::filesystem::directory_iterator(at("data")),
                                                               std::filesystem::directory_iterator()))
                           : 0;
    comm_.barrier();
    return num;
  }
  TokenRows rows_of(const DatasetIndex& index) const {
    const Dataset dataset(dataset_directory(at("data"), index));
    return dataset.rows(0, dataset.num_rows());
  }
  /// Collective: what all ranks throw; they must agree on it.
  std::string refusal(ExitCode code) {
    std::string message = "accepted";
    try {
      prepare();
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      message = error.what();
    }
    std::string message_of_rank0 = message;
    comm_.broadcast(message_of_rank0);
    EXPECT_EQ(message, message_of_rank0);
    return message;
  }

  Communicator comm_;
  std::unique_ptr<TemporaryDirectory> owned_;
  std::string path_;
  PrepareOptions options_;
};

/// `num` rows "a", "b", ... with a completion of their own each.
inline std::string numbered_rows(int begin, int end) {
  std::string text;
  for (int i = begin; i < end; ++i) {
    text += fmt::format(R"({{"prompt": "p{}", "completion": "{}"}})", i, std::string(i % 5, 'c'));
    text += "\n";
  }
  return text;
}

}  // namespace plumb
