#include "lib/jinja/methods.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <span>

namespace plumb::jinja {

void charge_search(Runtime& runtime, const Text& text, const Text& sought) {
  runtime.charge_scan(text.size());
  runtime.charge(static_cast<int64_t>(text.size() * sought.size() / 4096));
}

namespace {

struct Call {
  Runtime& runtime;
  const Value& receiver;
  const Arguments& arguments;

  const Text& text() const { return *receiver.text(); }
  /// The argument as a string; null for Python's None and for a missing argument.
  const Text* text_at(size_t index, std::string_view name) const {
    const Value* value = arguments.find(index, name);
    if (!value || value->is<None>()) return nullptr;
    if (!value->text())
      runtime.fail("argument '{}' must be a str, not {}{}", name, type_name(*value),
                   value->is<Undefined>() ? ": " + *std::get<Undefined>(value->data).what : "");
    return value->text();
  }
  const Text& required_text(size_t index, std::string_view name) const {
    const Text* text = text_at(index, name);
    if (!text) runtime.fail("argument '{}' must be a str, not NoneType", name);
    return *text;
  }
};

struct MethodEntry {
  std::string_view name;
  Parameters parameters;
  Value (*apply)(const Call& call);
};

Value list_of(Runtime& runtime, std::vector<Text> texts) {
  std::vector<Value> items;
  items.reserve(texts.size());
  for (Text& text : texts) items.push_back(runtime.make_text(std::move(text)));
  return runtime.make_sequence(std::move(items));
}

Value stripped(const Call& call, bool left, bool right) {
  const Text* characters = call.text_at(0, "chars");
  if (characters) charge_search(call.runtime, call.text(), *characters);
  return call.runtime.make_text(strip(call.text(), characters, left, right));
}

Value split_by(const Call& call, bool from_right) {
  const Text* separator = call.text_at(0, "sep");
  const int64_t limit = integer_argument(call.runtime, "maxsplit", call.arguments.find(1, "maxsplit"), -1);
  const std::string& bytes = call.text().bytes;
  if (!separator) {
    call.runtime.charge_values(
        std::count_if(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) - 33u > 94u; }));
    return list_of(call.runtime, split_whitespace(call.text(), limit, from_right));
  }
  if (separator->size() == 0) call.runtime.fail("split: the separator is empty");
  charge_search(call.runtime, call.text(), *separator);
  call.runtime.charge_values(count_occurrences(call.text(), *separator));
  return list_of(call.runtime, split(call.text(), *separator, limit, from_right));
}

Value tests_affix(const Call& call, bool at_start) {
  const auto has = [&](const Text& affix) {
    return at_start ? call.text().bytes.starts_with(affix.bytes) : call.text().bytes.ends_with(affix.bytes);
  };
  const Value* affix = call.arguments.find(0, "prefix");
  if (!affix->sequence() || affix->sequence()->kind != SequenceKind::kTuple)
    return Value(has(call.required_text(0, "prefix")));
  for (const Value& item : affix->sequence()->items) {
    call.runtime.charge(1);
    if (!item.text()) call.runtime.fail("startswith and endswith take a str or a tuple of them");
    if (has(*item.text())) return Value(true);
  }
  return Value(false);
}

Value position(const Call& call, bool from_right) {
  const std::string& bytes = call.text().bytes;
  const Text& sought = call.required_text(0, "sub");
  charge_search(call.runtime, call.text(), sought);
  const size_t found = from_right ? bytes.rfind(sought.bytes) : bytes.find(sought.bytes);
  if (found == std::string::npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(count_code_points(std::string_view(bytes).substr(0, found))));
}

Value without_affix(const Call& call, bool at_start) {
  const Text& affix = call.required_text(0, "prefix");
  const Text& text = call.text();
  if (affix.size() == 0 || !(at_start ? text.bytes.starts_with(affix.bytes) : text.bytes.ends_with(affix.bytes)))
    return call.receiver;
  return call.runtime.make_text(at_start ? text.part(affix.size(), text.size())
                                         : text.part(0, text.size() - affix.size()));
}

// True if the string is not empty and every code point satisfies the predicate.
Value all_are(const Call& call, bool (*holds)(int32_t)) {
  const std::string& bytes = call.text().bytes;
  for (size_t at = 0; at < bytes.size(); at += code_point_size(bytes, at))
    if (!holds(code_point_at(bytes, at))) return Value(false);
  return Value(!bytes.empty());
}

bool is_letter(int32_t c) {
  const auto category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_ND; }
bool is_letter_or_number(int32_t c) { return is_letter(c) || is_decimal(c); }

Value replaced(const Call& call) {
  const Text& from = call.required_text(0, "old");
  const Text& to = call.required_text(1, "new");
  const int64_t limit = integer_argument(call.runtime, "count", call.arguments.find(2, "count"), -1);
  charge_search(call.runtime, call.text(), from);
  call.runtime.charge_text(replaced_size(call.text(), from, to, limit));
  return Runtime::wrap_text(replace(call.text(), from, to, limit));
}

Value joined(const Call& call) {
  Text out;
  bool is_first = true;
  for (const Value& item : iterate(call.runtime, *call.arguments.find(0, "iterable"))) {
    if (!item.text()) call.runtime.fail("join: expected strings, found {}", type_name(item));
    if (!std::exchange(is_first, false)) call.runtime.append(out, call.text());
    call.runtime.append(out, *item.text());
  }
  return Runtime::wrap_text(std::move(out));
}

Value counted(const Call& call) {
  const Text& sought = call.required_text(0, "sub");
  charge_search(call.runtime, call.text(), sought);
  if (sought.size() == 0) return Value(static_cast<int64_t>(count_code_points(call.text().bytes) + 1));
  return Value(static_cast<int64_t>(count_occurrences(call.text(), sought)));
}

const MethodEntry kTextMethods[] = {
    {"capitalize", {{}}, [](const Call& c) { return c.runtime.make_text(capitalize(c.text())); }},
    {"count", {{"sub"}, 1}, counted},
    {"endswith", {{"prefix"}, 1}, [](const Call& c) { return tests_affix(c, false); }},
    {"find", {{"sub"}, 1}, [](const Call& c) { return position(c, false); }},
    {"isalnum", {{}}, [](const Call& c) { return all_are(c, is_letter_or_number); }},
    {"isalpha", {{}}, [](const Call& c) { return all_are(c, is_letter); }},
    {"isdigit", {{}}, [](const Call& c) { return all_are(c, is_decimal); }},
    {"islower", {{}}, [](const Call& c) { return Value(is_all_lower(c.text().bytes)); }},
    {"isspace", {{}}, [](const Call& c) { return all_are(c, is_space); }},
    {"isupper", {{}}, [](const Call& c) { return Value(is_all_upper(c.text().bytes)); }},
    {"join", {{"iterable"}, 1}, joined},
    {"lower", {{}}, [](const Call& c) { return c.runtime.make_text(lower(c.text())); }},
    {"lstrip", {{"chars"}}, [](const Call& c) { return stripped(c, true, false); }},
    {"removeprefix", {{"prefix"}, 1}, [](const Call& c) { return without_affix(c, true); }},
    {"removesuffix", {{"prefix"}, 1}, [](const Call& c) { return without_affix(c, false); }},
    {"replace", {{"old", "new", "count"}, 2}, replaced},
    {"rfind", {{"sub"}, 1}, [](const Call& c) { return position(c, true); }},
    {"rsplit", {{"sep", "maxsplit"}}, [](const Call& c) { return split_by(c, true); }},
    {"rstrip", {{"chars"}}, [](const Call& c) { return stripped(c, false, true); }},
    {"split", {{"sep", "maxsplit"}}, [](const Call& c) { return split_by(c, false); }},
    {"splitlines",
     {{"keepends"}},
     [](const Call& c) {
       c.runtime.charge_values(max_lines(c.text()));
       return list_of(c.runtime, split_lines(c.text(), flag_argument(c.arguments.find(0, "keepends"), false)));
     }},
    {"startswith", {{"prefix"}, 1}, [](const Call& c) { return tests_affix(c, true); }},
    {"strip", {{"chars"}}, [](const Call& c) { return stripped(c, true, true); }},
    {"title", {{}}, [](const Call& c) { return c.runtime.make_text(title(c.text())); }},
    {"upper", {{}}, [](const Call& c) { return c.runtime.make_text(upper(c.text())); }},
};

Value dict_view(const Call& call, Value (*view)(Runtime&, const std::pair<Value, Value>&)) {
  std::vector<Value> items;
  for (const auto& entry : call.receiver.dict()->entries) items.push_back(view(call.runtime, entry));
  return call.runtime.make_sequence(std::move(items), SequenceKind::kView);
}

const MethodEntry kDictMethods[] = {
    {"get",
     {{"key", "default"}, 1},
     [](const Call& c) {
       const Value* found = find_key(c.runtime, *c.receiver.dict(), *c.arguments.find(0, "key"));
       const Value* otherwise = c.arguments.find(1, "default");
       return found ? *found : otherwise ? *otherwise : Value();
     }},
    {"items",
     {{}},
     [](const Call& c) {
       return dict_view(c, [](Runtime& runtime, const std::pair<Value, Value>& entry) {
         return runtime.make_sequence({entry.first, entry.second}, SequenceKind::kTuple);
       });
     }},
    {"keys",
     {{}},
     [](const Call& c) {
       return dict_view(c, [](Runtime&, const std::pair<Value, Value>& entry) { return entry.first; });
     }},
    {"values",
     {{}},
     [](const Call& c) {
       return dict_view(c, [](Runtime&, const std::pair<Value, Value>& entry) { return entry.second; });
     }},
};

int64_t count_equal(const Call& call, bool stops_at_first) {
  const Value& sought = *call.arguments.find(0, "value");
  const auto& items = call.receiver.sequence()->items;
  int64_t count = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!are_equal(call.runtime, items[i], sought)) continue;
    if (stops_at_first) return static_cast<int64_t>(i);
    ++count;
  }
  if (stops_at_first) call.runtime.fail("index: the value is not in the list");
  return count;
}

const MethodEntry kListMethods[] = {
    {"count", {{"value"}, 1}, [](const Call& c) { return Value(count_equal(c, false)); }},
    {"index", {{"value"}, 1}, [](const Call& c) { return Value(count_equal(c, true)); }},
};

const MethodEntry kLoopMethods[] = {
    {"changed",
     {{"*"}},
     [](const Call& c) {
       Loop& loop = *std::get<Loop*>(c.receiver.data);
       const auto& now = c.arguments.positional;
       bool is_same = loop.index0 > 0 && now.size() == loop.last_changed.size();
       for (size_t i = 0; is_same && i < now.size(); ++i) is_same = are_equal(c.runtime, now[i], loop.last_changed[i]);
       loop.last_changed = now;
       return Value(!is_same);
     }},
    {"cycle",
     {{"*"}},
     [](const Call& c) {
       const auto& choices = c.arguments.positional;
       if (choices.empty()) c.runtime.fail("loop.cycle needs at least one value");
       return choices[static_cast<size_t>(std::get<Loop*>(c.receiver.data)->index0) % choices.size()];
     }},
};

std::span<const MethodEntry> methods_of(const Value& object) {
  if (object.text()) return kTextMethods;
  if (object.dict()) return kDictMethods;
  if (object.is<Loop*>()) return kLoopMethods;
  const Sequence* sequence = object.sequence();
  if (sequence && (sequence->kind == SequenceKind::kList || sequence->kind == SequenceKind::kTuple))
    return kListMethods;
  return {};
}

const MethodEntry* find_method(const Value& object, std::string_view name) {
  for (const MethodEntry& entry : methods_of(object))
    if (entry.name == name) return &entry;
  return nullptr;
}

}  // namespace

bool has_method(const Value& object, std::string_view name) { return find_method(object, name) != nullptr; }

std::string method_names(const Value& object) {
  std::vector<std::string_view> names;
  for (const MethodEntry& entry : methods_of(object)) names.push_back(entry.name);
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

Value call_method(Runtime& runtime, const Method& method, const Arguments& arguments) {
  const MethodEntry* entry = find_method(method.receiver, method.name);
  check(entry != nullptr, "jinja: a method was looked up that does not exist");
  if (method.receiver.text()) runtime.charge_scan(method.receiver.text()->size());
  arguments.expect(runtime, method.name, entry->parameters);
  return entry->apply({runtime, method.receiver, arguments});
}

}  // namespace plumb::jinja
