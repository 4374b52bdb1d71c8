#include "apps/options/settings.hpp"

#include <boost/program_options.hpp>

#include <algorithm>
#include <charconv>
#include <map>

#include "apps/options/ini.hpp"
#include "apps/options/words.hpp"
#include "lib/base/check.hpp"
#include "lib/base/redact.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace po = boost::program_options;

namespace {

/// `--some-option` becomes `--some_option`; a boolean without a value means true.
std::vector<std::string> normalize(const std::vector<Option>& options, std::vector<std::string> arguments) {
  std::vector<std::string> result;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string& argument = arguments[i];
    if (!argument.starts_with("--")) {
      result.push_back(argument);
      continue;
    }
    const size_t end = std::min(argument.find('='), argument.size());
    std::replace(argument.begin() + 2, argument.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
    const Option* option = find_option(options, argument.substr(2, end - 2));
    result.push_back(argument);
    if (option && option->is_flag && end == argument.size() &&
        (i + 1 == arguments.size() || arguments[i + 1].starts_with("--")))
      result.back() += "=true";
  }
  return result;
}

struct OpenedError : po::error_with_option_name {
  static constexpr auto kSubstitutions = &OpenedError::m_substitutions;
};

/// Boost's message. What a user gave may hold a `%`, with which Boost's own substitution need not end: such
/// texts are put in afterward.
std::string message_of(po::error_with_option_name& error) {
  std::vector<std::string> texts;
  for (const auto& [name, text] : std::map(error.*OpenedError::kSubstitutions)) {
    if (text.find('%') == std::string::npos) continue;
    error.set_substitute(name, fmt::format("\x1a{}\x1a", texts.size()));
    texts.push_back(text);
  }
  std::string message = error.what();
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string stand_in = fmt::format("\x1a{}\x1a", i);
    if (const size_t at = message.find(stand_in); at != std::string::npos)
      message.replace(at, stand_in.size(), texts[i]);
  }
  return message;
}

Settings split_command_line(const std::vector<Option>& options, const std::vector<std::string>& arguments) {
  po::options_description description;
  for (const Option& option : options) {
    auto* value = po::value<std::vector<std::string>>();
    description.add_options()(option.name.c_str(), option.is_list ? value->multitoken() : value);
  }
  const po::parsed_options parsed =
      po::command_line_parser(normalize(options, arguments))
          .options(description)
          .positional({})
          .style(po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                 po::command_line_style::long_allow_next)
          .run();
  Settings settings;
  for (const po::option& option : parsed.options)
    for (const std::string& value : option.value) settings.push_back({option.string_key, value});
  return settings;
}

}  // namespace

bool has_setting(const Settings& settings, std::string_view name) {
  return std::any_of(settings.begin(), settings.end(), [&](const Setting& s) { return s.name == name; });
}

std::string find_setting(const Settings& settings, std::string_view name) {
  const auto found = std::find_if(settings.begin(), settings.end(), [&](const Setting& s) { return s.name == name; });
  return found == settings.end() ? "" : found->value;
}

Settings override_settings(Settings winners, const Settings& others) {
  Settings all = winners;
  for (const Setting& setting : others)
    if (!has_setting(winners, setting.name)) all.push_back(setting);
  return all;
}

void throw_unknown_option(const Setting& setting, const std::vector<std::string>& known) {
  throw_error<UsageError>("{}unknown option --{}{}", setting.where, setting.name,
                          did_you_mean(setting.name, known, "--"));
}

Option config_option() {
  return {.name = "config",
          .group = OptionGroup::kGeneral,
          .help = "INI file with more options; the command line overrides it",
          .value_name = "FILE",
          .default_text = {}};
}

static void check_known(const Settings& settings, const std::vector<Option>& options) {
  for (const Setting& setting : settings)
    if (!find_option(options, setting.name)) throw_unknown_option(setting, names_of(options));
}

Settings read_command_line(const std::vector<Option>& options, std::vector<std::string> arguments,
                           const std::string& positional, const std::string& usage) {
  if (!positional.empty() && !arguments.empty() && !arguments[0].starts_with("-"))
    arguments.insert(arguments.begin(), "--" + positional);
  std::vector<Option> known = options;
  known.push_back(config_option());
  Settings settings;
  try {
    settings = split_command_line(known, arguments);
  } catch (const po::unknown_option& error) {
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    throw_unknown_option({name, ""}, names_of(known));
  } catch (const po::too_many_positional_options_error&) {
    throw_error<UsageError>("an argument without an option before it; usage: {}", usage);
  } catch (po::error_with_option_name& error) {
    throw UsageError(message_of(error));
  } catch (const po::error& error) {
    throw UsageError(error.what());
  }
  const auto is_config = [](const Setting& setting) { return setting.name == "config"; };
  const std::string config = find_setting(settings, "config");
  if (std::count_if(settings.begin(), settings.end(), is_config) > 1)
    throw UsageError("--config: expected once, got more than once");
  std::erase_if(settings, is_config);
  if (!config.empty()) settings = override_settings(settings, read_config_file(config));
  check_known(settings, options);
  return settings;
}

OptionTexts parse(const std::vector<BoundOption>& options, const Settings& settings) {
  check_known(settings, options_of(options));
  OptionTexts texts;
  for (const BoundOption& bound : options) {
    const Option& option = bound.option;
    std::vector<std::string> values;
    std::string where;
    for (const Setting& setting : settings) {
      if (setting.name != option.name) continue;
      values.push_back(setting.value);
      where = setting.where;
    }
    try {
      if (values.size() > 1 && !option.is_list)
        throw_error<UsageError>("--{}: expected once, got more than once", option.name);
      std::string text = values.empty() ? option.default_text : bound.set(values);
      if (option.is_list && !values.empty()) text = join_words(values);  // so that it reads back
      texts.emplace_back(option.name, redact_secrets(text));
    } catch (const UsageError& error) {
      throw_error<UsageError>("{}{}", where, error.what());
    }
  }
  return texts;
}

double parse_duration(const std::string& text, std::string_view option) {
  double seconds = 0;
  int num_parts = 0;
  const char* const end = text.data() + text.size();
  for (const char* next = text.data();; ++next) {
    int64_t part = 0;
    const auto read = std::from_chars(next, end, part);
    const bool is_last = read.ptr == end;
    const bool is_part = read.ec == std::errc() && part >= 0 && (num_parts == 0 || part < 60) && ++num_parts <= 3;
    if (!is_part || (!is_last && *read.ptr != ':'))
      throw_error<UsageError>("--{}: expected seconds, MM:SS or HH:MM:SS, got {}", option, text);
    seconds = seconds * 60 + static_cast<double>(part);
    if (is_last) return seconds;
    next = read.ptr;
  }
}

}  // namespace plumb
