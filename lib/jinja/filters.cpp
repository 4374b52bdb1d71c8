#include "lib/jinja/filters.hpp"

#include <algorithm>

namespace plumb::jinja {

static constexpr auto kTables = {text_filters, layout_filters, sequence_filters};

const Filter* find_filter(std::string_view name) {
  for (const auto table : kTables)
    for (const Filter& filter : table())
      if (filter.name == name) return &filter;
  return nullptr;
}

std::string missing_filter(std::string_view name) {
  if (name == "random") return "filter 'random' is not supported: the same row must give the same text";
  if (name == "urlize") return "filter 'urlize' is not supported: it makes links of a web page";
  std::vector<std::string_view> names;
  for (const auto table : kTables)
    for (const Filter& filter : table()) names.push_back(filter.name);
  std::sort(names.begin(), names.end());
  return fmt::format("filter '{}' is not supported; supported: {}", name, fmt::join(names, ", "));
}

Value apply_filter(Runtime& runtime, const Filter& filter, const Value& input, const Arguments& arguments) {
  const Runtime::RecursionGuard guard(runtime);
  runtime.charge(1);
  if (input.text()) runtime.charge_scan(input.text()->size());
  arguments.expect(runtime, filter.name, filter.parameters);
  return filter.apply(runtime, input, arguments);
}

}  // namespace plumb::jinja
