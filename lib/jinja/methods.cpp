#include "lib/jinja/methods.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace plumb::jinja {

void charge_search(Runtime& runtime, const Text& text, const Text& sought) {
  runtime.charge_scan(text.size());
  runtime.charge(static_cast<int64_t>(text.size() * sought.size() / 4096));
}

const Text* MethodCall::text_at(size_t index, std::string_view name) const {
  const Value* value = arguments.find(index, name);
  if (!value || value->is<None>()) return nullptr;
  if (!value->text())
    runtime.fail("argument '{}' must be a str, not {}{}", name, type_name(*value),
                 value->is<Undefined>() ? ": " + *std::get<Undefined>(value->data).what : "");
  return value->text();
}

const Text& MethodCall::required_text(size_t index, std::string_view name) const {
  const Text* text = text_at(index, name);
  if (!text) runtime.fail("argument '{}' must be a str, not NoneType", name);
  return *text;
}

namespace {

Value dict_view(const MethodCall& call, Value (*view)(Runtime&, const std::pair<Value, Value>&)) {
  std::vector<Value> items;
  for (const auto& entry : call.receiver.dict()->entries) items.push_back(view(call.runtime, entry));
  return call.runtime.make_sequence(std::move(items), SequenceKind::kView);
}

// dict.fromkeys(keys, value)
Value dict_from_keys(const MethodCall& call) {
  const Value* value = call.arguments.find(1, "value");
  std::vector<std::pair<Value, Value>> entries;
  for (const Value& key : iterate(call.runtime, *call.arguments.find(0, "iterable")))
    entries.emplace_back(key, value ? *value : Value());
  return call.runtime.make_dict(std::move(entries));
}

// Values never change, so that a copy is the value itself.
Value copied(const MethodCall& call) { return call.receiver; }

const MethodEntry kDictMethods[] = {
    {"copy", {{}}, copied},
    {"fromkeys", {{"iterable", "value"}, 1, true}, dict_from_keys},
    {"get",
     {{"key", "default"}, 1, true},
     [](const MethodCall& c) {
       const Value* found = find_key(c.runtime, *c.receiver.dict(), *c.arguments.find(0, "key"));
       const Value* otherwise = c.arguments.find(1, "default");
       return found ? *found : otherwise ? *otherwise : Value();
     }},
    {"items",
     {{}},
     [](const MethodCall& c) {
       return dict_view(c, [](Runtime& runtime, const std::pair<Value, Value>& entry) {
         return runtime.make_sequence({entry.first, entry.second}, SequenceKind::kTuple);
       });
     }},
    {"keys",
     {{}},
     [](const MethodCall& c) {
       return dict_view(c, [](Runtime&, const std::pair<Value, Value>& entry) { return entry.first; });
     }},
    {"values",
     {{}},
     [](const MethodCall& c) {
       return dict_view(c, [](Runtime&, const std::pair<Value, Value>& entry) { return entry.second; });
     }},
};

Value count_equal(const MethodCall& call) {
  int64_t count = 0;
  for (const Value& item : call.receiver.sequence()->items)
    count += are_equal(call.runtime, item, *call.arguments.find(0, "value"));
  return Value(count);
}

Value index_of(const MethodCall& call) {
  const auto& items = call.receiver.sequence()->items;
  const auto size = static_cast<int64_t>(items.size());
  const auto bound = [&](size_t index, std::string_view name, int64_t otherwise) {
    const int64_t given = integer_argument(call.runtime, name, call.arguments.find(index, name), otherwise);
    return std::clamp<int64_t>(given < 0 ? std::max(given, -size) + size : given, 0, size);
  };
  const int64_t end = bound(2, "stop", size);
  for (int64_t i = bound(1, "start", 0); i < end; ++i)
    if (are_equal(call.runtime, items[static_cast<size_t>(i)], *call.arguments.find(0, "value"))) return Value(i);
  call.runtime.fail("index: the value is not in the {}", type_name(call.receiver));
}

const MethodEntry kListMethods[] = {
    {"copy", {{}}, copied},
    {"count", {{"value"}, 1, true}, count_equal},
    {"index", {{"value", "start", "stop"}, 1, true}, index_of},
};

// Tuples, and ranges without the bounds of index.
const std::span<const MethodEntry> kTupleMethods = std::span(kListMethods).subspan(1);

const MethodEntry kLoopMethods[] = {
    {"changed",
     {{"*"}},
     [](const MethodCall& c) {
       Loop& loop = *std::get<Loop*>(c.receiver.data);
       const auto& now = c.arguments.positional;
       bool is_same = loop.last_changed && now.size() == loop.last_changed->size();
       for (size_t i = 0; is_same && i < now.size(); ++i)
         is_same = are_equal(c.runtime, now[i], (*loop.last_changed)[i]);
       loop.last_changed = now;
       return Value(!is_same);
     }},
    {"cycle",
     {{"*"}},
     [](const MethodCall& c) {
       const auto& choices = c.arguments.positional;
       if (choices.empty()) c.runtime.fail("loop.cycle needs at least one value");
       return choices[static_cast<size_t>(std::get<Loop*>(c.receiver.data)->index0) % choices.size()];
     }},
};

const MethodEntry kCyclerMethods[] = {
    {"next",
     {{}},
     [](const MethodCall& c) {
       Cycler& cycler = *std::get<Cycler*>(c.receiver.data);
       const size_t position = std::exchange(cycler.position, (cycler.position + 1) % cycler.items.size());
       return cycler.items[position];
     }},
    {"reset",
     {{}},
     [](const MethodCall& c) {
       std::get<Cycler*>(c.receiver.data)->position = 0;
       return Value();
     }},
};

const MethodEntry kDictTypeMethods[] = {{"fromkeys", {{"iterable", "value"}, 1, true}, dict_from_keys}};

std::span<const MethodEntry> methods_of(const Value& object) {
  if (object.text()) return text_methods();
  if (object.dict()) return kDictMethods;
  if (object.is<Loop*>()) return kLoopMethods;
  if (object.is<Cycler*>()) return kCyclerMethods;
  if (object.is<Function>() && std::get<Function>(object.data) == Function::kDict) return kDictTypeMethods;
  if (!is_indexable(object)) return {};
  return object.sequence()->kind == SequenceKind::kList ? kListMethods : kTupleMethods;
}

const MethodEntry* find_method(const Value& object, std::string_view name) {
  for (const MethodEntry& entry : methods_of(object))
    if (entry.name == name) return &entry;
  return nullptr;
}

}  // namespace

bool has_method(const Value& object, std::string_view name) { return find_method(object, name) != nullptr; }

bool is_mutator(const Value& object, std::string_view name) {
  static constexpr std::array<std::string_view, 5> kOfDicts = {"clear", "pop", "popitem", "setdefault", "update"};
  static constexpr std::array<std::string_view, 8> kOfLists = {"append", "clear",  "extend",  "insert",
                                                               "pop",    "remove", "reverse", "sort"};
  if (object.dict()) return std::find(kOfDicts.begin(), kOfDicts.end(), name) != kOfDicts.end();
  const Sequence* sequence = object.sequence();
  return sequence && sequence->kind == SequenceKind::kList &&
         std::find(kOfLists.begin(), kOfLists.end(), name) != kOfLists.end();
}

std::string method_names(const Value& object) {
  std::vector<std::string_view> names;
  for (const MethodEntry& entry : methods_of(object)) names.push_back(entry.name);
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

static Value as_markup(Runtime& runtime, const Value& value) {
  if (const Text* text = value.text()) {
    Text markup = *text;
    markup.is_markup = true;
    return runtime.make_text(std::move(markup));
  }
  if (!value.sequence()) return value;
  std::vector<Value> items;
  for (const Value& item : value.sequence()->items) items.push_back(as_markup(runtime, item));
  return runtime.make_sequence(std::move(items), value.sequence()->kind);
}

Value call_method(Runtime& runtime, const Value& receiver, std::string_view name, const Arguments& arguments) {
  const MethodEntry* entry = find_method(receiver, name);
  check(entry != nullptr, "jinja: a method was looked up that does not exist");
  const Text* text = receiver.text();
  if (text) runtime.charge_scan(text->size());
  arguments.expect(runtime, name, entry->parameters);
  const Value result = entry->apply({runtime, receiver, arguments});
  return text && text->is_markup ? as_markup(runtime, result) : result;
}

}  // namespace plumb::jinja
