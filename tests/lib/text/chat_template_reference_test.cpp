// Every conversation that transformers rendered with the chat templates of released models, byte by byte.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "lib/base/check.hpp"
#include "lib/text/chat_template.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

class ChatTemplateReference : public testing::TestWithParam<const char*> {};

TEST_P(ChatTemplateReference, RendersWhatTransformersRenders) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::string record = "chat/" + std::string(GetParam());
  const auto config = test::reference_json(record + ".json");
  const auto chat = ChatTemplate::from_jinja(config["chat_template"].get<std::string>(), "<s>", "</s>");
  std::istringstream rows(test::reference_text(record + ".jsonl"));
  size_t num_rows = 0;
  for (std::string line; std::getline(rows, line); ++num_rows) {
    const auto row = nlohmann::json::parse(line);
    std::vector<Message> messages;
    for (const auto& message : row["messages"]) messages.push_back({message["role"], message["content"]});
    const bool adds_generation_prompt = row["add_generation_prompt"];
    if (row.contains("error")) {
      EXPECT_THROW(chat.render(messages, adds_generation_prompt), DataError) << line;
      continue;
    }
    const MarkedText marked = chat.render(messages, adds_generation_prompt);
    EXPECT_EQ(marked.text, row["text"].get<std::string>()) << line;
    size_t end = 0;
    for (const ByteRange& range : marked.user_ranges) {
      EXPECT_LE(end, range.begin) << line;
      EXPECT_LT(range.begin, range.end) << line;
      end = range.end;
    }
    EXPECT_LE(end, marked.text.size()) << line;
  }
  EXPECT_GE(num_rows, 20u);
}

INSTANTIATE_TEST_SUITE_P(Models, ChatTemplateReference, testing::Values("qwen2.5", "qwen3"),
                         [](const auto& model) { return std::string(model.param) == "qwen3" ? "Qwen3" : "Qwen2_5"; });

}  // namespace
}  // namespace plumb
