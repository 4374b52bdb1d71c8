#include "apps/options/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <map>
#include <sstream>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/redact.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace po = boost::program_options;

namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;

bool is_boolean_word(const std::string& word) {
  return word == "true" || word == "false" || word == "1" || word == "0" || word == "yes" || word == "no";
}

/// `--some-option` is `--some_option`; a boolean without a value means true.
std::vector<std::string> normalize(const OptionsDescription& description, std::vector<std::string> arguments) {
  std::vector<std::string> result;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string& argument = arguments[i];
    if (!argument.starts_with("--")) {
      result.push_back(argument);
      continue;
    }
    const size_t end = std::min(argument.find('='), argument.size());
    std::replace(argument.begin() + 2, argument.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
    const std::string name = argument.substr(2, end - 2);
    const auto* option = description.find_nothrow(name, false);
    const bool is_boolean = option && dynamic_cast<const po::typed_value<bool>*>(option->semantic().get());
    result.push_back(argument);
    if (is_boolean && end == argument.size() && (i + 1 == arguments.size() || !is_boolean_word(arguments[i + 1])))
      result.back() += "=true";
  }
  return result;
}

std::string text_of(const boost::any& value) {
  if (const auto* text = boost::any_cast<std::string>(&value)) return *text;
  if (const auto* flag = boost::any_cast<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* integer = boost::any_cast<int64_t>(&value)) return std::to_string(*integer);
  if (const auto* small = boost::any_cast<int>(&value)) return std::to_string(*small);
  if (const auto* number = boost::any_cast<double>(&value)) return fmt::format("{}", *number);
  if (const auto* list = boost::any_cast<std::vector<std::string>>(&value))
    return fmt::format("{}", fmt::join(*list, " "));
  check(value.empty(), "every type of option can be written as text");
  return "";
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

}  // namespace

po::typed_value<double>* with_default(double& target) {
  return po::value<double>(&target)->default_value(target, fmt::format("{}", target));
}

std::vector<std::string> names_of(const OptionsDescription& description) {
  std::vector<std::string> names;
  for (const auto& option : description.options()) names.push_back(option->long_name());
  return names;
}

void throw_unknown_option(const std::string& name, const std::vector<std::string>& known) {
  throw_error<UsageError>("unknown option --{}{}", name, did_you_mean(name, known, "--"));
}

void check_range(bool holds, std::string_view name, std::string_view expected, double got) {
  if (!holds) throw_error<UsageError>("--{}: expected {}, got {}", name, expected, got);
}

void check_one_of(const std::string& value, const std::vector<std::string>& known, std::string_view name) {
  if (std::find(known.begin(), known.end(), value) == known.end()) throw_not_one_of(name, value, known);
}

void declare_threads(OptionsDescription& description, int& threads) {
  const auto check_threads = [](int n) { check_range(n >= 0 && n <= 1024, "threads", "0 to 1024", n); };
  description.add_options()("threads", with_default(threads)->notifier(check_threads),
                            "threads per rank; 0: the node's cores divided by its ranks");
}

void declare(OptionsDescription& description, ModelOptions& o) {
  description.add_options()("model", po::value(&o.model), "Hugging Face model directory")(
      "dtype", choice(o.dtype, "dtype"), "float32 or bfloat16: of activations, gathered weights and the wire");
  declare_threads(description, o.threads);
}

void declare(OptionsDescription& description, DataOptions& o, bool has_sft_options) {
  auto add = description.add_options();
  add("data", po::value(&o.data)->multitoken(), "files of rows: .csv .tsv .jsonl .json");
  add("columns", with_default(o.columns), "role=name,...: which column plays which role");
  add("chat_template", with_default(o.chat_template),
      "chatml, llama2, llama3, mistral, zephyr, alpaca or instructgpt; none: the model's own");
  add("max_length", with_default(o.max_length), "tokens of a text; the rest is cut off; 0: no limit");
  add("parse_special_tokens", with_default(o.parse_special_tokens),
      "control tokens spelled out in the data become control tokens (TRL does so)");
  if (!has_sft_options) return;
  add("completion_only_loss", po::value<bool>()->notifier([&o](bool value) { o.completion_only_loss = value; }),
      "train the completion only (default: true where rows have a prompt)");
  add("assistant_only_loss", with_default(o.assistant_only_loss), "train the assistant's turns only");
}

SftOptions sft_options(const DataOptions& o) {
  return {o.max_length, o.completion_only_loss, o.assistant_only_loss, o.parse_special_tokens};
}

PairOptions pair_options(const DataOptions& o, bool drops_long_pairs) {
  return {.max_length = o.max_length,
          .drops_long_pairs = drops_long_pairs,
          .parses_special_tokens = o.parse_special_tokens};
}

bool parse_options(const std::string& usage, OptionsDescription& description, const std::vector<std::string>& required,
                   std::vector<std::string> arguments, OptionTexts* texts) {
  const std::vector<std::string> declared = names_of(description);
  std::string config_file;
  description.add_options()("config", po::value(&config_file), "INI file of further options")("help", "this text");
  po::variables_map values;
  try {
    const auto parsed = po::command_line_parser(normalize(description, std::move(arguments)))
                            .options(description)
                            .positional({})
                            .style(po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                                   po::command_line_style::long_allow_next)
                            .run();
    po::store(parsed, values);
    if (values.count("help")) {
      std::cout << "usage: " << usage << "\n\n" << description;
      return false;
    }
    if (values.count("config")) {
      const auto path = values["config"].as<std::string>();
      if (!is_regular_file(path))
        throw_error<UsageError>("--config {}: cannot be read: expected a file, got none", path);
      std::istringstream file(read_text_file(path, kMaxConfigBytes));
      po::store(po::parse_config_file(file, description), values);
    }
    po::notify(values);
  } catch (const po::unknown_option& error) {
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    throw_unknown_option(name, names_of(description));
  } catch (const po::too_many_positional_options_error&) {
    throw_error<UsageError>("an argument without an option before it; usage: {}", usage);
  } catch (po::error_with_option_name& error) {
    throw UsageError(message_of(error));
  } catch (const po::error& error) {
    throw UsageError(error.what());
  }
  for (const std::string& name : required)
    if (!values.count(name)) throw_error<UsageError>("--{} is required; usage: {}", name, usage);
  if (texts)
    for (const std::string& name : declared)
      texts->emplace_back(name, values.count(name) ? redact_secrets(text_of(values[name].value())) : "");
  return true;
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
