// A command of the program as a value: what --help, the shell completion and the man page show of it, and how it runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/options/settings.hpp"

namespace plumb {

struct CommandText {
  std::string name;
  std::string summary;  // one line
  std::string usage;    // after "plumb NAME "
  std::string example;  // a whole command line
  std::string notes = {};
  std::vector<std::string> required = {};  // options that must be given
  std::string positional = {};             // the option whose name may be left out before the first value
  bool is_hidden = false;                  // not in plumb --help
};

struct Command {
  CommandText text;
  std::vector<Option> options;
  /// Returns the exit code; errors are thrown.
  std::function<int(const Settings& settings)> run;
};

/// A command whose options fill an O. `options` binds them.
template <class O>
Command make_command(CommandText text, std::vector<BoundOption> (*options)(O&), int (*run)(const O&)) {
  O defaults;
  return {std::move(text), options_of(options(defaults)), [options, run](const Settings& settings) {
            O values;
            parse(options(values), settings);
            return run(values);
          }};
}

/// Runs the command with the arguments after its name, or prints its help for --help or -h. Returns the exit code.
/// Throws UsageError.
int run_command(const Command& command, const std::vector<std::string>& arguments);

/// The list of commands.
std::string render_help(const std::vector<Command>& commands);
/// The options of a command by group, with defaults, choices and ranges.
std::string render_help(const Command& command);

/// A completion script for bash.
std::string render_bash_completion(const std::vector<Command>& commands);
/// plumb(1), in roff.
std::string render_man_page(const std::vector<Command>& commands);

}  // namespace plumb
