#include "lib/jinja/value.hpp"

#include <algorithm>

namespace plumb::jinja {

// Limits the recursion of everything that walks a value, its destructor included.
constexpr int kMaxDepth = 100;

void Runtime::charge_text(size_t bytes) {
  charge_scan(bytes);
  if (bytes > limits_.output_bytes) fail("makes a string of more than {} bytes", limits_.output_bytes);
  text_bytes_ += bytes;
  if (text_bytes_ > limits_.text_bytes) fail("makes more than {} bytes of strings", limits_.text_bytes);
}

void Runtime::charge_append(const Text& out, size_t bytes) {
  charge_text(bytes);
  if (out.size() + bytes > limits_.output_bytes) fail("makes a string of more than {} bytes", limits_.output_bytes);
}

void Runtime::append(Text& out, const Text& part) {
  charge_append(out, part.size());
  out.append(part);
}

void Runtime::append(Text& out, std::string_view part) {
  charge_append(out, part.size());
  out.append(part);
}

Value Runtime::make_text(Text text) {
  charge_text(text.size());
  return wrap_text(std::move(text));
}

Value Runtime::wrap_text(Text text) {
  return Value(std::shared_ptr<const Text>(std::make_shared<Text>(std::move(text))));
}

static int depth_of(const Value& value) {
  if (const Sequence* sequence = value.sequence()) return sequence->depth;
  if (const Dict* dict = value.dict()) return dict->depth;
  if (const Method* method = value.method()) return depth_of(method->receiver) + 1;
  return 0;
}

Value Runtime::make_sequence(std::vector<Value> items, SequenceKind kind) {
  charge(static_cast<int64_t>(items.size()) + 1);
  auto sequence = std::make_shared<Sequence>();
  for (const Value& item : items) sequence->depth = std::max(sequence->depth, depth_of(item) + 1);
  if (sequence->depth > kMaxDepth) fail("nests values deeper than {} levels", kMaxDepth);
  sequence->items = std::move(items);
  sequence->kind = kind;
  return Value(std::shared_ptr<const Sequence>(std::move(sequence)));
}

Value Runtime::make_group(const Value& key, const Value& items) {
  const Value tuple = make_sequence({key, items}, SequenceKind::kTuple);
  const_cast<Sequence*>(tuple.sequence())->is_group = true;  // it is not shared yet
  return tuple;
}

Value Runtime::make_dict(std::vector<std::pair<Value, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  for (auto& [key, value] : entries) {
    if (key.dict() || (key.sequence() && key.sequence()->kind == SequenceKind::kList))
      fail("a {} cannot be a key of a dict", type_name(key));
    dict->depth = std::max({dict->depth, depth_of(key) + 1, depth_of(value) + 1});
    if (dict->depth > kMaxDepth) fail("nests values deeper than {} levels", kMaxDepth);
    if (const Value* known = find_key(*this, *dict, key))
      *const_cast<Value*>(known) = std::move(value);  // the dict is not shared yet
    else
      dict->entries.emplace_back(std::move(key), std::move(value));
  }
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

Value Runtime::make_method(const Value& receiver, std::string name) {
  if (depth_of(receiver) >= kMaxDepth) fail("nests values deeper than {} levels", kMaxDepth);
  return Value(std::shared_ptr<const Method>(std::make_shared<Method>(Method{receiver, std::move(name)})));
}

Value Runtime::make_undefined(std::string what) {
  return Value(Undefined{std::make_shared<const std::string>(std::move(what))});
}

std::string_view type_name(const Value& value) {
  struct Visitor {
    std::string_view operator()(const Undefined&) const { return "Undefined"; }
    std::string_view operator()(None) const { return "NoneType"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(int64_t) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const std::shared_ptr<const Text>&) const { return "str"; }
    std::string_view operator()(const std::shared_ptr<const Sequence>& sequence) const {
      switch (sequence->kind) {
        case SequenceKind::kList:
          return "list";
        case SequenceKind::kTuple:
          return "tuple";
        case SequenceKind::kRange:
          return "range";
        case SequenceKind::kGenerator:
          return "generator";
        case SequenceKind::kView:
          return "view of a dict";
      }
      return "list";
    }
    std::string_view operator()(const std::shared_ptr<const Dict>&) const { return "dict"; }
    std::string_view operator()(const std::shared_ptr<const Method>&) const { return "method"; }
    std::string_view operator()(Namespace*) const { return "namespace"; }
    std::string_view operator()(Loop*) const { return "loop"; }
    std::string_view operator()(Cycler*) const { return "cycler"; }
    std::string_view operator()(Joiner*) const { return "joiner"; }
    std::string_view operator()(const Macro*) const { return "macro"; }
    std::string_view operator()(Function) const { return "function"; }
  };
  return std::visit(Visitor(), value.data);
}

bool is_true(const Value& value) {
  if (value.is<Undefined>() || value.is<None>()) return false;
  if (value.is<double>()) return value.number() != 0;
  if (value.is_integer()) return value.integer() != 0;
  if (const Text* text = value.text()) return text->size() != 0;
  if (const Sequence* sequence = value.sequence())
    return sequence->kind == SequenceKind::kGenerator || !sequence->items.empty();
  if (const Dict* dict = value.dict()) return !dict->entries.empty();
  return true;
}

// Exact even if the integer has more digits than a double; -2 means unordered (NaN).
static int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  if (!a.is_integer() && !b.is_integer()) {
    const double x = a.number(), y = b.number();
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : -2;
  }
  if (!a.is_integer()) {
    const int reversed = compare_numbers(b, a);
    return reversed == -2 ? -2 : -reversed;
  }
  const double y = b.number();
  if (y != y) return -2;
  if (y >= 0x1p63) return -1;
  if (y < -0x1p63) return 1;
  const auto floor = static_cast<int64_t>(y);  // rounded toward zero; the remainder decides ties
  if (a.integer() != floor) return a.integer() < floor ? -1 : 1;
  const double rest = y - static_cast<double>(floor);
  return rest > 0 ? -1 : rest < 0;
}

bool are_equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.charge(1);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.data.index() != b.data.index()) return false;
  if (const Text* x = a.text()) {
    const Text* y = b.text();
    if (x == y) return true;
    if (x->size() != y->size()) return false;
    runtime.charge_scan(x->size());
    return x->bytes == y->bytes;
  }
  if (const Sequence* x = a.sequence()) {
    const Sequence* y = b.sequence();
    if (x->kind != y->kind || x->kind == SequenceKind::kGenerator) return x == y;
    if (x->items.size() != y->items.size()) return false;
    for (size_t i = 0; i < x->items.size(); ++i)
      if (!are_equal(runtime, x->items[i], y->items[i])) return false;
    return true;
  }
  if (const Dict* x = a.dict()) {
    const Dict* y = b.dict();
    if (x->entries.size() != y->entries.size()) return false;
    for (const auto& [key, value] : x->entries) {
      const Value* other = find_key(runtime, *y, key);
      if (!other || !are_equal(runtime, value, *other)) return false;
    }
    return true;
  }
  if (const Method* x = a.method())
    return x->name == b.method()->name && are_equal(runtime, x->receiver, b.method()->receiver);
  if (a.is<Undefined>() || a.is<None>()) return true;
  if (a.is<Namespace*>()) return std::get<Namespace*>(a.data) == std::get<Namespace*>(b.data);
  if (a.is<Loop*>()) return std::get<Loop*>(a.data) == std::get<Loop*>(b.data);
  if (a.is<Cycler*>()) return std::get<Cycler*>(a.data) == std::get<Cycler*>(b.data);
  if (a.is<Joiner*>()) return std::get<Joiner*>(a.data) == std::get<Joiner*>(b.data);
  if (a.is<const Macro*>()) return std::get<const Macro*>(a.data) == std::get<const Macro*>(b.data);
  return std::get<Function>(a.data) == std::get<Function>(b.data);
}

bool is_less(Runtime& runtime, const Value& a, const Value& b) {
  runtime.charge(1);
  if (a.is<Undefined>()) runtime.fail("{}", *std::get<Undefined>(a.data).what);
  if (b.is<Undefined>()) runtime.fail("{}", *std::get<Undefined>(b.data).what);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == -1;
  if (a.text() && b.text()) {
    runtime.charge_scan(std::min(a.text()->size(), b.text()->size()));
    return a.text()->bytes < b.text()->bytes;  // UTF-8 order is code point order
  }
  const Sequence* x = a.sequence();
  const Sequence* y = b.sequence();
  const auto has_order = [](const Sequence* sequence) {
    return sequence && (sequence->kind == SequenceKind::kList || sequence->kind == SequenceKind::kTuple);
  };
  if (!has_order(x) || !has_order(y) || x->kind != y->kind)
    runtime.fail("cannot order a value of type {} and one of type {}", type_name(a), type_name(b));
  for (size_t i = 0; i < x->items.size() && i < y->items.size(); ++i)
    if (!are_equal(runtime, x->items[i], y->items[i])) return is_less(runtime, x->items[i], y->items[i]);
  return x->items.size() < y->items.size();
}

const Value* find_key(Runtime& runtime, const Dict& dict, const Value& key) {
  for (const auto& [known, value] : dict.entries)
    if (are_equal(runtime, known, key)) return &value;
  return nullptr;
}

bool is_indexable(const Value& value) {
  const Sequence* sequence = value.sequence();
  return sequence && sequence->kind != SequenceKind::kGenerator && sequence->kind != SequenceKind::kView;
}

bool is_iterable(const Value& value) {
  return value.is<Undefined>() || value.text() || value.sequence() || value.dict();
}

std::vector<Value> iterate(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  if (const Sequence* sequence = value.sequence()) {
    runtime.charge(static_cast<int64_t>(sequence->items.size()));
    items.assign(sequence->items.begin() + static_cast<ptrdiff_t>(sequence->num_taken), sequence->items.end());
    if (sequence->kind == SequenceKind::kGenerator) sequence->num_taken = sequence->items.size();
  } else if (const Dict* dict = value.dict()) {
    runtime.charge(static_cast<int64_t>(dict->entries.size()));
    for (const auto& [key, unused] : dict->entries) items.push_back(key);
  } else if (const Text* text = value.text()) {
    runtime.charge_values(count_code_points(text->bytes));
    for (size_t at = 0; at < text->size();) {
      const size_t next = at + code_point_size(text->bytes, at);
      items.push_back(runtime.make_text(text->part(at, next)));
      at = next;
    }
  } else if (!value.is<Undefined>()) {
    runtime.fail("a value of type {} is not iterable; expected a list, dict or string", type_name(value));
  }
  return items;
}

}  // namespace plumb::jinja
