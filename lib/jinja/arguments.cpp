#include "lib/jinja/arguments.hpp"

#include <algorithm>

namespace plumb::jinja {

const Value* Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [known, value] : named)
    if (known == name) return &value;
  return nullptr;
}

void Arguments::expect(Runtime& runtime, std::string_view callee, const Parameters& parameters) const {
  for (const Value& value : positional)
    if (value.text()) runtime.charge_scan(value.text()->size());
  const auto& names = parameters.names;
  if (names.size() == 1 && names[0] == "*") return;
  if (positional.size() > names.size())
    runtime.fail("{} takes at most {} arguments ({}), got {}", callee, names.size(), fmt::join(names, ", "),
                 positional.size());
  if (parameters.is_positional && !named.empty())
    runtime.fail("{} takes no argument by name, got '{}'", callee, named[0].first);
  for (const auto& [name, value] : named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) runtime.fail("{} has no argument '{}'; it has: {}", callee, name, fmt::join(names, ", "));
    if (static_cast<size_t>(found - names.begin()) < positional.size())
      runtime.fail("{} got its argument '{}' twice", callee, name);
  }
  for (size_t i = 0; i < parameters.num_required; ++i)
    if (!find(i, names[i])) runtime.fail("{} needs the argument '{}'", callee, names[i]);
}

int64_t integer_argument(Runtime& runtime, std::string_view name, const Value* argument, int64_t otherwise) {
  if (!argument) return otherwise;
  if (!argument->is_integer()) runtime.fail("argument '{}' must be an int, not {}", name, type_name(*argument));
  return argument->integer();
}

bool flag_argument(const Value* argument, bool otherwise) { return argument ? is_true(*argument) : otherwise; }

Text text_argument(Runtime& runtime, const Value* argument, std::string_view otherwise) {
  return argument ? to_text(runtime, *argument) : Text(otherwise);
}

}  // namespace plumb::jinja
