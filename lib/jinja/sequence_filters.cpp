#include "lib/jinja/filters.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "lib/jinja/is_tests.hpp"
#include "lib/jinja/operators.hpp"

namespace plumb::jinja {

Value resolve_path(Runtime& runtime, Value item, const Value& path, const Value* otherwise) {
  const auto step = [&](const Value& key) {
    runtime.charge(1);
    item = get_item(runtime, item, key);
    if (otherwise && item.is<Undefined>()) item = *otherwise;
  };
  if (!path.text()) {
    step(path);
    return item;
  }
  for (const Text& part : split(*path.text(), Text("."), -1, false)) {
    const std::string& name = part.bytes;
    int64_t index = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool is_index = !name.empty() && name[0] != '-' && error == std::errc() && end == name.data() + name.size();
    step(is_index ? Value(index) : runtime.make_text(part));
  }
  return item;
}

namespace {

Value without_case(Runtime& runtime, const Value& value) {
  return value.text() ? runtime.make_text(lower(*value.text())) : value;
}

// The sort or comparison key of an item, given the arguments `attribute` and `case_sensitive`.
Value key_of(Runtime& runtime, const Value& item, const Value* attribute, bool is_case_sensitive) {
  const Value key = attribute && !attribute->is<None>() ? resolve_path(runtime, item, *attribute) : item;
  return is_case_sensitive ? key : without_case(runtime, key);
}

Value length_filter(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.is<Undefined>()) return Value(int64_t{0});
  if (const Text* text = input.text()) return Value(static_cast<int64_t>(count_code_points(text->bytes)));
  if (const Dict* dict = input.dict()) return Value(static_cast<int64_t>(dict->entries.size()));
  if (const Sequence* sequence = input.sequence(); sequence && sequence->kind != SequenceKind::kGenerator)
    return Value(static_cast<int64_t>(sequence->items.size()));
  if (input.is<Loop*>()) return Value(std::get<Loop*>(input.data)->length);
  runtime.fail("length: a {} has no length{}", type_name(input),
               input.sequence() ? "; turn it into a list first (filter list)" : "");
}

Value default_filter(Runtime&, const Value& input, const Arguments& arguments) {
  const bool also_false = flag_argument(arguments.find(1, "boolean"), false);
  if (!input.is<Undefined>() && !(also_false && !is_true(input))) return input;
  const Value* otherwise = arguments.find(0, "default_value");
  return otherwise ? *otherwise : Runtime::wrap_text(Text());
}

Value join_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Text separator = text_argument(runtime, arguments.find(0, "d"), "");
  const Value* attribute = arguments.find(1, "attribute");
  Text out;
  bool is_first = true;
  for (const Value& item : iterate(runtime, input)) {
    if (!std::exchange(is_first, false)) runtime.append(out, separator);
    runtime.append(
        out, to_text(runtime, attribute && !attribute->is<None>() ? resolve_path(runtime, item, *attribute) : item));
  }
  return Runtime::wrap_text(std::move(out));
}

Value first_filter(Runtime& runtime, const Value& input, const Arguments&) {
  if (const Sequence* sequence = input.sequence(); sequence && sequence->num_taken < sequence->items.size())
    return sequence->items[sequence->kind == SequenceKind::kGenerator ? sequence->num_taken++ : 0];
  const std::vector<Value> items = iterate(runtime, input);
  return items.empty() ? Runtime::make_undefined("first: the sequence is empty") : items.front();
}

Value last_filter(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.sequence() && input.sequence()->kind == SequenceKind::kGenerator)
    runtime.fail("last: a generator has no known end; turn it into a list first (filter list)");
  const std::vector<Value> items = iterate(runtime, input);
  return items.empty() ? Runtime::make_undefined("last: the sequence is empty") : items.back();
}

Value list_filter(Runtime& runtime, const Value& input, const Arguments&) {
  return runtime.make_sequence(iterate(runtime, input));
}

Value reverse_filter(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.text()) return runtime.make_text(reverse(*input.text()));
  std::vector<Value> items = iterate(runtime, input);
  std::reverse(items.begin(), items.end());
  const bool was_generator = input.sequence() && input.sequence()->kind == SequenceKind::kGenerator;
  return runtime.make_sequence(std::move(items), was_generator ? SequenceKind::kList : SequenceKind::kGenerator);
}

// Sorts by precomputed keys. Equal items keep their order, also in reverse.
std::vector<Value> sorted(Runtime& runtime, std::vector<std::pair<Value, Value>> keyed, bool is_reversed) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return is_reversed ? is_less(runtime, b.first, a.first) : is_less(runtime, a.first, b.first);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return items;
}

// The key to sort by: a list of what the attributes "a,b" are.
Value sort_key(Runtime& runtime, const Value& item, const Value* attribute, bool is_case_sensitive) {
  const Text* names = attribute ? attribute->text() : nullptr;
  if (!names) return runtime.make_sequence({key_of(runtime, item, attribute, is_case_sensitive)});
  std::vector<Value> keys;
  for (const Text& name : split(*names, Text(","), -1, false)) {
    const Value path = runtime.make_text(name);
    keys.push_back(key_of(runtime, item, &path, is_case_sensitive));
  }
  return runtime.make_sequence(std::move(keys));
}

Value sort_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const bool is_case_sensitive = flag_argument(arguments.find(1, "case_sensitive"), false);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(runtime, input))
    keyed.emplace_back(sort_key(runtime, item, arguments.find(2, "attribute"), is_case_sensitive), item);
  return runtime.make_sequence(sorted(runtime, std::move(keyed), flag_argument(arguments.find(0, "reverse"), false)));
}

Value groupby_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value& attribute = *arguments.find(0, "attribute");
  const Value* otherwise = arguments.find(1, "default");
  if (otherwise && otherwise->is<None>()) otherwise = nullptr;
  const bool is_case_sensitive = flag_argument(arguments.find(2, "case_sensitive"), false);
  const auto value_of = [&](const Value& item) {
    return attribute.is<None>() ? item : resolve_path(runtime, item, attribute, otherwise);
  };
  const auto key_of_item = [&](const Value& item) {
    return is_case_sensitive ? value_of(item) : without_case(runtime, value_of(item));
  };
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(runtime, input)) keyed.emplace_back(key_of_item(item), item);
  const std::vector<Value> items = sorted(runtime, std::move(keyed), false);
  std::vector<Value> groups;
  for (size_t begin = 0, end = 0; begin < items.size(); begin = end) {
    const Value key = key_of_item(items[begin]);
    for (end = begin + 1; end < items.size() && are_equal(runtime, key, key_of_item(items[end]));) ++end;
    const std::vector<Value> members(items.begin() + static_cast<ptrdiff_t>(begin),
                                     items.begin() + static_cast<ptrdiff_t>(end));
    groups.push_back(runtime.make_group(value_of(items[begin]), runtime.make_sequence(members)));
  }
  return runtime.make_sequence(std::move(groups));
}

Value batch_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const int64_t size = integer_argument(runtime, "linecount", arguments.find(0, "linecount"), 0);
  const Value* fill = arguments.find(1, "fill_with");
  std::vector<Value> lists;
  std::vector<Value> items;
  for (const Value& item : iterate(runtime, input)) {
    if (static_cast<int64_t>(items.size()) == size) lists.push_back(runtime.make_sequence(std::exchange(items, {})));
    items.push_back(item);
  }
  if (!items.empty()) {
    const int64_t missing = size - static_cast<int64_t>(items.size());
    if (fill && !fill->is<None>() && missing > 0) {
      runtime.charge_values(static_cast<size_t>(missing));
      items.insert(items.end(), static_cast<size_t>(missing), *fill);
    }
    lists.push_back(runtime.make_sequence(std::move(items)));
  }
  return runtime.make_sequence(std::move(lists), SequenceKind::kGenerator);
}

Value slice_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const int64_t num_slices = integer_argument(runtime, "slices", arguments.find(0, "slices"), 0);
  const Value* fill = arguments.find(1, "fill_with");
  const std::vector<Value> items = iterate(runtime, input);
  if (num_slices == 0) runtime.fail("slice: expected at least one slice");
  const auto count = static_cast<size_t>(std::max<int64_t>(num_slices, 0));
  runtime.charge_values(count);
  std::vector<Value> lists;
  auto next = items.begin();
  for (size_t i = 0; i < count; ++i) {
    const bool has_extra = i < items.size() % count;
    const auto end = next + static_cast<ptrdiff_t>(items.size() / count + has_extra);
    std::vector<Value> list(next, end);
    next = end;
    if (fill && !fill->is<None>() && !has_extra) list.push_back(*fill);
    lists.push_back(runtime.make_sequence(std::move(list)));
  }
  return runtime.make_sequence(std::move(lists), SequenceKind::kGenerator);
}

Value dictsort_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_defined(runtime, input);
  if (!input.dict()) runtime.fail("dictsort: expected a dict, not {}", type_name(input));
  const bool is_case_sensitive = flag_argument(arguments.find(0, "case_sensitive"), false);
  const std::string by = text_argument(runtime, arguments.find(1, "by"), "key").bytes;
  if (by != "key" && by != "value") runtime.fail("dictsort: by '{}'; expected 'key' or 'value'", by);
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : input.dict()->entries)
    keyed.emplace_back(key_of(runtime, by == "key" ? key : value, nullptr, is_case_sensitive),
                       runtime.make_sequence({key, value}, SequenceKind::kTuple));
  return runtime.make_sequence(sorted(runtime, std::move(keyed), flag_argument(arguments.find(2, "reverse"), false)));
}

Value unique_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const bool is_case_sensitive = flag_argument(arguments.find(0, "case_sensitive"), false);
  std::vector<Value> seen;
  std::vector<Value> items;
  for (const Value& item : iterate(runtime, input)) {
    const Value key = key_of(runtime, item, arguments.find(1, "attribute"), is_case_sensitive);
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& known) { return are_equal(runtime, known, key); }))
      continue;
    seen.push_back(key);
    items.push_back(item);
  }
  return runtime.make_sequence(std::move(items), SequenceKind::kGenerator);
}

template <bool is_max>
Value extreme_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const bool is_case_sensitive = flag_argument(arguments.find(0, "case_sensitive"), false);
  const std::vector<Value> items = iterate(runtime, input);
  if (items.empty()) return Runtime::make_undefined("min, max: the sequence is empty");
  const auto key = [&](const Value& item) {
    return key_of(runtime, item, arguments.find(1, "attribute"), is_case_sensitive);
  };
  Value best = items[0];
  Value best_key = key(best);
  for (size_t i = 1; i < items.size(); ++i) {
    const Value other = key(items[i]);
    if (is_max ? is_less(runtime, best_key, other) : is_less(runtime, other, best_key))
      best = items[i], best_key = other;
  }
  return best;
}

Value sum_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value* attribute = arguments.find(0, "attribute");
  const Value* start = arguments.find(1, "start");
  Value total = start ? *start : Value(int64_t{0});
  if (total.text()) runtime.fail("sum: strings cannot be summed; use join");
  for (const Value& item : iterate(runtime, input))
    total = apply_operator(runtime, Operator::kAdd, total,
                           attribute && !attribute->is<None>() ? resolve_path(runtime, item, *attribute) : item);
  return total;
}

Value items_filter(Runtime& runtime, const Value& input, const Arguments&) {
  std::vector<Value> items;
  if (const Dict* dict = input.dict()) {
    for (const auto& [key, value] : dict->entries)
      items.push_back(runtime.make_sequence({key, value}, SequenceKind::kTuple));
  } else if (!input.is<Undefined>()) {
    runtime.fail("items: expected a dict, not {}", type_name(input));
  }
  return runtime.make_sequence(std::move(items), SequenceKind::kGenerator);
}

Value attr_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Text name = text_argument(runtime, arguments.find(0, "name"), "");
  expect_defined(runtime, input);
  // unlike a dot, this filter never looks up dict keys
  if (name.bytes.starts_with('_') || (input.dict() && get_attribute(runtime, input, name.bytes).method() == nullptr))
    return Runtime::make_undefined(fmt::format("{} has no attribute '{}'", type_name(input), name.bytes.substr(0, 80)));
  return get_attribute(runtime, input, name.bytes);
}

// The arguments after the first num_used.
Arguments rest_of(const Arguments& arguments, size_t num_used) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<ptrdiff_t>(num_used));
  return rest;
}

Value map_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  std::vector<Value> items;
  const std::vector<Value> inputs = is_true(input) ? iterate(runtime, input) : std::vector<Value>();
  if (arguments.positional.empty()) {
    const Value* attribute = nullptr;
    const Value* otherwise = nullptr;
    for (const auto& [name, value] : arguments.named) {
      if (name != "attribute" && name != "default")
        runtime.fail("map has no argument '{}'; it has: attribute, default", name);
      (name == "attribute" ? attribute : otherwise) = &value;
    }
    if (!attribute) runtime.fail("map needs the name of a filter, or attribute='...'");
    if (otherwise && otherwise->is<None>()) otherwise = nullptr;
    for (const Value& item : inputs) items.push_back(resolve_path(runtime, item, *attribute, otherwise));
  } else {
    const std::string name = to_text(runtime, arguments.positional[0]).bytes;
    const Filter* filter = find_filter(name);
    if (!filter) runtime.fail("{}", missing_filter(name));
    const Arguments rest = rest_of(arguments, 1);
    for (const Value& item : inputs) items.push_back(apply_filter(runtime, *filter, item, rest));
  }
  return runtime.make_sequence(std::move(items), SequenceKind::kGenerator);
}

// Implements select and reject, and selectattr and rejectattr, which test an attribute.
template <bool wants, bool looks_at_attribute>
Value select_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  constexpr size_t kTestAt = looks_at_attribute ? 1 : 0;
  if (arguments.positional.size() < kTestAt) runtime.fail("needs the name of an attribute");
  const Test* test = nullptr;
  Arguments rest;
  if (arguments.positional.size() > kTestAt) {
    const std::string name = to_text(runtime, arguments.positional[kTestAt]).bytes;
    test = find_test(name);
    if (!test) runtime.fail("test '{}' is not supported; supported: {}", name, fmt::join(test_names(), ", "));
    rest = rest_of(arguments, kTestAt + 1);
  }
  std::vector<Value> items;
  for (const Value& item : is_true(input) ? iterate(runtime, input) : std::vector<Value>()) {
    const Value tested = looks_at_attribute ? resolve_path(runtime, item, arguments.positional[0]) : item;
    if ((test ? apply_test(runtime, *test, tested, rest) : is_true(tested)) == wants) items.push_back(item);
  }
  return runtime.make_sequence(std::move(items), SequenceKind::kGenerator);
}

const Filter kFilters[] = {
    {"attr", {{"name"}, 1}, attr_filter},
    {"batch", {{"linecount", "fill_with"}, 1}, batch_filter},
    {"count", {{}}, length_filter},
    {"d", {{"default_value", "boolean"}}, default_filter},
    {"default", {{"default_value", "boolean"}}, default_filter},
    {"dictsort", {{"case_sensitive", "by", "reverse"}}, dictsort_filter},
    {"first", {{}}, first_filter},
    {"groupby", {{"attribute", "default", "case_sensitive"}, 1}, groupby_filter},
    {"items", {{}}, items_filter},
    {"join", {{"d", "attribute"}}, join_filter},
    {"last", {{}}, last_filter},
    {"length", {{}}, length_filter},
    {"list", {{}}, list_filter},
    {"map", {{"*"}}, map_filter},
    {"max", {{"case_sensitive", "attribute"}}, extreme_filter<true>},
    {"min", {{"case_sensitive", "attribute"}}, extreme_filter<false>},
    {"reject", {{"*"}}, select_filter<false, false>},
    {"rejectattr", {{"*"}}, select_filter<false, true>},
    {"reverse", {{}}, reverse_filter},
    {"select", {{"*"}}, select_filter<true, false>},
    {"selectattr", {{"*"}}, select_filter<true, true>},
    {"slice", {{"slices", "fill_with"}, 1}, slice_filter},
    {"sort", {{"reverse", "case_sensitive", "attribute"}}, sort_filter},
    {"sum", {{"attribute", "start"}}, sum_filter},
    {"unique", {{"case_sensitive", "attribute"}}, unique_filter},
};

}  // namespace

std::span<const Filter> sequence_filters() { return kFilters; }

}  // namespace plumb::jinja
