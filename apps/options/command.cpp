#include "apps/options/command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "lib/base/check.hpp"
#include "lib/base/version.hpp"

namespace plumb {

namespace {

constexpr size_t kColumns = 100;
constexpr size_t kHelpColumn = 34;

/// " (choices; range; default)", or "" if it has none of them.
std::string details(const Option& option) {
  std::vector<std::string> parts;
  if (!option.choices.empty()) parts.push_back(fmt::format("one of {}", fmt::join(option.choices, ", ")));
  if (const std::string range = option.range.text(); !range.empty()) parts.push_back(range);
  if (!option.default_text.empty()) parts.push_back(fmt::format("default {}", option.default_text));
  return parts.empty() ? "" : fmt::format(" ({})", fmt::join(parts, "; "));
}

std::string name_and_value(const Option& option) {
  return fmt::format("--{} {}{}", option.name, option.value_name, option.is_list ? "..." : "");
}

/// Words of `text` in lines that end before kColumns; all but the first are indented.
std::string wrap(const std::string& text, size_t column, size_t indent) {
  std::string wrapped;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const bool is_first = wrapped.empty();
    if (!is_first && column + 1 + word.size() > kColumns) {
      wrapped += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!is_first) {
      wrapped += " ";
      ++column;
    }
    wrapped += word;
    column += word.size();
  }
  return wrapped;
}

std::string render_option(const Option& option) {
  std::string text = "  " + name_and_value(option);
  text += text.size() + 2 > kHelpColumn ? "\n" + std::string(kHelpColumn, ' ')
                                        : std::string(kHelpColumn - text.size(), ' ');
  return text + wrap(option.help + details(option), kHelpColumn, kHelpColumn) + "\n";
}

std::vector<Option> all_options(const Command& command) {
  std::vector<Option> options = command.options;
  options.push_back(config_option());
  return options;
}

template <class Print>
void for_each_group(const std::vector<Option>& options, const Print& print) {
  for (const Named<OptionGroup>& group : kNames<OptionGroup>) {
    std::vector<Option> members;
    for (const Option& option : options)
      if (option.group == group.value) members.push_back(option);
    if (!members.empty()) print(group.name, members);
  }
}

std::string usage_of(const Command& command) {
  return fmt::format("plumb {} {}", command.text.name, command.text.usage);
}

/// Text that roff prints as it is.
std::string roff(const std::string& text) {
  std::string escaped = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace

int run_command(const Command& command, const std::vector<std::string>& arguments) {
  const bool wants_help = std::any_of(arguments.begin(), arguments.end(),
                                      [](const std::string& word) { return word == "--help" || word == "-h"; });
  if (wants_help) {
    fmt::print("{}", render_help(command));
    return kExitDone;
  }
  const std::string usage = usage_of(command);
  const Settings settings = read_command_line(command.options, arguments, command.text.positional, usage);
  for (const std::string& name : command.text.required)
    if (!has_setting(settings, name)) throw_error<UsageError>("--{} is required; usage: {}", name, usage);
  return command.run(settings);
}

std::string render_help(const std::vector<Command>& commands) {
  std::string text =
      "usage: [mpirun -n N] plumb COMMAND [--option value ...] [--config FILE.ini]\n"
      "       plumb --version\n\n";
  for (const Command& command : commands)
    if (!command.text.is_hidden) text += fmt::format("  {:<10}  {}\n", command.text.name, command.text.summary);
  return text + "\nplumb COMMAND --help lists the options of a command.\n";
}

std::string render_help(const Command& command) {
  std::string text = fmt::format("usage: {}\n\n{}\n", usage_of(command), wrap(command.text.summary, 0, 0));
  if (!command.text.notes.empty()) text += fmt::format("\n{}\n", command.text.notes);
  text += fmt::format("\nexample:\n  {}\n", command.text.example);
  for_each_group(all_options(command), [&](std::string_view name, const std::vector<Option>& options) {
    text += fmt::format("\n{}:\n", name);
    for (const Option& option : options) text += render_option(option);
  });
  return text;
}

std::string render_bash_completion(const std::vector<Command>& commands) {
  std::vector<std::string> names;
  std::string options, values;
  for (const Command& command : commands) {
    const std::string& name = command.text.name;
    if (!command.text.is_hidden) names.push_back(name);
    std::vector<std::string> words = {"--help"};
    for (const Option& option : all_options(command)) {
      words.push_back("--" + option.name);
      const std::string pattern = fmt::format("    {}/--{})", name, option.name);
      const std::vector<std::string> choices =
          option.is_flag ? std::vector<std::string>{"true", "false"} : option.choices;
      if (!choices.empty()) values += fmt::format("{} choices='{}' ;;\n", pattern, fmt::join(choices, " "));
      if (option.value_name == "DIR") values += pattern + " kind=-d ;;\n";
    }
    options += fmt::format("    {}) options='{}' ;;\n", name, fmt::join(words, " "));
  }
  return fmt::format(
      "# bash completion for plumb, generated by `plumb completion`\n"
      "_plumb() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}\n"
      "  local options='' choices='' kind=-f\n"
      "  if ((COMP_CWORD == 1)); then\n"
      "    COMPREPLY=($(compgen -W '{} --help --version' -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case $command in\n{}  esac\n"
      "  case $command/$previous in\n{}  esac\n"
      "  if [[ -n $choices ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n"
      "  elif [[ $word == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
      "  else\n"
      "    compopt -o filenames\n"
      "    COMPREPLY=($(compgen $kind -- \"$word\"))\n"
      "  fi\n"
      "}}\n"
      "complete -F _plumb plumb\n",
      fmt::join(names, " "), options, values);
}

std::string render_man_page(const std::vector<Command>& commands) {
  std::string text = fmt::format(
      ".TH PLUMB 1 \"\" \"plumb {}\" \"User Commands\"\n"
      ".SH NAME\nplumb \\- fine\\-tunes and aligns language models on MPI clusters\n"
      ".SH SYNOPSIS\n.B plumb\n.I COMMAND\n[\\-\\-option value ...] [\\-\\-config FILE.ini]\n"
      ".SH COMMANDS\n",
      version());
  for (const Command& command : commands) {
    if (command.text.is_hidden) continue;
    text += fmt::format(".SS plumb {}\n{}.\n.PP\nUsage: {}\n.PP\nExample: {}\n", roff(command.text.name),
                        roff(command.text.summary), roff(usage_of(command)), roff(command.text.example));
    for_each_group(all_options(command), [&](std::string_view name, const std::vector<Option>& options) {
      text += fmt::format(".PP\n{}:\n", roff(std::string(name)));
      for (const Option& option : options)
        text += fmt::format(".TP\n.B {}\n{}\n", roff(name_and_value(option)), roff(option.help + details(option)));
    });
  }
  return text;
}

}  // namespace plumb
