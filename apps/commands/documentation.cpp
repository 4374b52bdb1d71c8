// plumb completion, plumb man: files for a shell and for man, from the declarations of commands and options.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

enum class Shell { kBash };

}  // namespace

template <>
inline constexpr auto kNames<Shell> = std::to_array<Named<Shell>>({{"bash", Shell::kBash}});

namespace {

struct CompletionOptions {
  Shell shell = Shell::kBash;
};

std::vector<BoundOption> bind_options(CompletionOptions& o) {
  return {declare("shell", OptionGroup::kOutput, o.shell, "shell that reads the script")};
}

int print_completion(const CompletionOptions&) {
  fmt::print("{}", render_bash_completion(all_commands()));
  return kExitDone;
}

struct NoOptions {};

std::vector<BoundOption> bind_options(NoOptions&) { return {}; }

int print_man_page(const NoOptions&) {
  fmt::print("{}", render_man_page(all_commands()));
  return kExitDone;
}

}  // namespace

Command completion_command() {
  return make_command<CompletionOptions>({.name = "completion",
                                          .summary = "print a completion script for the shell",
                                          .usage = "[bash]",
                                          .example = "source <(plumb completion bash)",
                                          .positional = "shell",
                                          .is_hidden = true},
                                         bind_options, print_completion);
}

Command man_command() {
  return make_command<NoOptions>({.name = "man",
                                  .summary = "print the man page",
                                  .usage = "",
                                  .example = "plumb man | man -l -",
                                  .is_hidden = true},
                                 bind_options, print_man_page);
}

}  // namespace plumb
