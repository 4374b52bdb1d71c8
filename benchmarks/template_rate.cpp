// Processor time of rendering conversations with chat templates. Reads one conversation a line, renders all of them
// once for each line of standard input that names a template's file, and prints microseconds a conversation.
// template_speed.sh runs it beside transformers. Usage: plumb_template_rate CONVERSATIONS.jsonl
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/text/chat_template.hpp"
#include "lib/text/turns.hpp"

int main(int argc, char** argv) {
  using namespace plumb;
  if (argc != 2) {
    std::fputs("usage: plumb_template_rate CONVERSATIONS.jsonl < TEMPLATES\n", stderr);
    return 2;
  }
  std::vector<std::vector<Message>> conversations;
  std::ifstream file(argv[1]);
  for (std::string line; std::getline(file, line);)
    conversations.push_back(parse_turns(nlohmann::ordered_json::parse(line).at("messages"), "conversation"));
  for (std::string path; std::getline(std::cin, path);) {
    std::ifstream source(path);
    const ChatTemplate chat =
        ChatTemplate::from_jinja(std::string(std::istreambuf_iterator<char>(source), {}), "<s>", "</s>");
    size_t num_bytes = 0;
    const std::clock_t start = std::clock();
    for (const std::vector<Message>& messages : conversations) num_bytes += chat.render(messages, false).text.size();
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    fmt::print("{:.3f} {}\n", seconds / static_cast<double>(conversations.size()) * 1e6, num_bytes);
    std::fflush(stdout);
  }
  return 0;
}
