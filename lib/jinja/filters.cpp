#include "lib/jinja/filters.hpp"

#include <algorithm>

namespace plumb::jinja {

const Filter* find_filter(std::string_view name) {
  for (const std::span<const Filter> filters : {text_filters(), sequence_filters()})
    for (const Filter& filter : filters)
      if (filter.name == name) return &filter;
  return nullptr;
}

std::vector<std::string> filter_names() {
  std::vector<std::string> names;
  for (const std::span<const Filter> filters : {text_filters(), sequence_filters()})
    for (const Filter& filter : filters) names.emplace_back(filter.name);
  std::sort(names.begin(), names.end());
  return names;
}

Value apply_filter(Runtime& runtime, const Filter& filter, const Value& input, const Arguments& arguments) {
  const Runtime::RecursionGuard guard(runtime);
  runtime.charge(1);
  if (input.text()) runtime.charge_scan(input.text()->size());
  arguments.expect(runtime, filter.name, filter.parameters);
  return filter.apply(runtime, input, arguments);
}

}  // namespace plumb::jinja
