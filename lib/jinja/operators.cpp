#include "lib/jinja/operators.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "lib/jinja/format.hpp"
#include "lib/jinja/html.hpp"
#include "lib/jinja/methods.hpp"

namespace plumb::jinja {

void expect_defined(const Runtime& runtime, const Value& value) {
  if (value.is<Undefined>()) runtime.fail("{}", *std::get<Undefined>(value.data).what);
}

static std::string_view spelling(Operator op) {
  switch (op) {
    case Operator::kAdd:
      return "+";
    case Operator::kSubtract:
      return "-";
    case Operator::kMultiply:
      return "*";
    case Operator::kDivide:
      return "/";
    case Operator::kFloorDivide:
      return "//";
    case Operator::kModulo:
      return "%";
    case Operator::kPower:
      return "**";
    default:
      return "comparison";
  }
}

static int64_t apply_to_integers(Runtime& runtime, Operator op, int64_t left, int64_t right) {
  int64_t result = 0;
  bool overflows = false;
  switch (op) {
    case Operator::kAdd:
      overflows = __builtin_add_overflow(left, right, &result);
      break;
    case Operator::kSubtract:
      overflows = __builtin_sub_overflow(left, right, &result);
      break;
    case Operator::kMultiply:
      overflows = __builtin_mul_overflow(left, right, &result);
      break;
    case Operator::kPower:
      result = 1;
      // squaring takes few steps for any exponent; powers of 0, 1 and -1 never overflow
      for (int64_t base = left, exponent = right; exponent > 0 && !overflows; exponent >>= 1) {
        if (exponent & 1) overflows = __builtin_mul_overflow(result, base, &result);
        if (exponent > 1) overflows = __builtin_mul_overflow(base, base, &base) || overflows;
      }
      break;
    default: {  // floor division and modulo round toward minus infinity
      if (right == 0) runtime.fail("division by zero");
      if (right == -1) return op == Operator::kModulo ? 0 : apply_to_integers(runtime, Operator::kSubtract, 0, left);
      const int64_t remainder = left % right;
      const bool rounds_down = remainder != 0 && (remainder < 0) != (right < 0);
      return op == Operator::kModulo ? (rounds_down ? remainder + right : remainder) : left / right - rounds_down;
    }
  }
  if (overflows) runtime.fail("integer {} {} {} does not fit 64 bits", left, spelling(op), right);
  return result;
}

static double apply_to_floats(Runtime& runtime, Operator op, double left, double right) {
  const bool divides = op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && right == 0) runtime.fail("division by zero");
  switch (op) {
    case Operator::kAdd:
      return left + right;
    case Operator::kSubtract:
      return left - right;
    case Operator::kMultiply:
      return left * right;
    case Operator::kDivide:
      return left / right;
    case Operator::kPower:
      if (left == 0 && right < 0) runtime.fail("0.0 cannot be raised to a negative power");
      if (left < 0 && right != std::floor(right)) runtime.fail("a root of a negative number is not supported");
      return std::pow(left, right);
    default:
      break;
  }
  double remainder = std::fmod(left, right);
  if (remainder != 0 && (remainder < 0) != (right < 0)) remainder += right;
  if (op == Operator::kModulo) return remainder == 0 ? std::copysign(0.0, right) : remainder;
  return std::floor((left - remainder) / right + 0.5);
}

static Value repeat(Runtime& runtime, const Value& value, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  const size_t size = value.text() ? value.text()->size() : value.sequence()->items.size();
  size_t total = 0;
  if (__builtin_mul_overflow(size, times, &total)) total = std::numeric_limits<size_t>::max();
  if (const Text* text = value.text()) {
    runtime.charge_text(total);
    Text out;
    out.is_markup = text->is_markup;
    if (size > 0)
      for (size_t i = 0; i < times; ++i) out.append(*text);
    return Runtime::wrap_text(std::move(out));
  }
  runtime.charge(static_cast<int64_t>(std::min<size_t>(total, size_t{1} << 40)));
  std::vector<Value> items;
  if (size > 0)
    for (size_t i = 0; i < times; ++i)
      items.insert(items.end(), value.sequence()->items.begin(), value.sequence()->items.end());
  return runtime.make_sequence(std::move(items), value.sequence()->kind);
}

static bool is_list_or_tuple(const Value& value) {
  const Sequence* sequence = value.sequence();
  return sequence && (sequence->kind == SequenceKind::kList || sequence->kind == SequenceKind::kTuple);
}

static Value add_texts(Runtime& runtime, Value left, const Value& right) {
  const Text* begin = left.text();
  if (begin->is_markup || right.text()->is_markup) {
    Text out = to_markup(runtime, left);
    runtime.append(out, to_markup(runtime, right));
    return Runtime::wrap_text(std::move(out));
  }
  if (std::get<std::shared_ptr<const Text>>(left.data).use_count() == 1) {
    runtime.append(const_cast<Text&>(*begin), *right.text());  // all texts are made by wrap_text, not const
    return left;
  }
  runtime.charge_text(begin->size());
  Text out;
  out.reserve(begin->size() + right.text()->size());
  out.append(*begin);
  runtime.append(out, *right.text());
  return Runtime::wrap_text(std::move(out));
}

Value apply_operator(Runtime& runtime, Operator op, Value left, const Value& right) {
  expect_defined(runtime, left);
  if (op == Operator::kModulo && left.text()) return Runtime::wrap_text(format_percent(runtime, *left.text(), right));
  expect_defined(runtime, right);
  if (left.is_number() && right.is_number()) {
    const bool is_whole = left.is_integer() && right.is_integer() && op != Operator::kDivide &&
                          (op != Operator::kPower || right.integer() >= 0);
    if (is_whole) return Value(apply_to_integers(runtime, op, left.integer(), right.integer()));
    return Value(apply_to_floats(runtime, op, left.number(), right.number()));
  }
  if (op == Operator::kAdd && left.text() && right.text()) {
    return add_texts(runtime, std::move(left), right);
  }
  if (op == Operator::kAdd && is_list_or_tuple(left) && is_list_or_tuple(right) &&
      left.sequence()->kind == right.sequence()->kind) {
    std::vector<Value> items = left.sequence()->items;
    items.insert(items.end(), right.sequence()->items.begin(), right.sequence()->items.end());
    return runtime.make_sequence(std::move(items), left.sequence()->kind);
  }
  if (op == Operator::kMultiply && right.is_integer() && (left.text() || is_list_or_tuple(left)))
    return repeat(runtime, left, right.integer());
  if (op == Operator::kMultiply && left.is_integer() && (right.text() || is_list_or_tuple(right)))
    return repeat(runtime, right, left.integer());
  runtime.fail("operator {} does not apply to {} and {}", spelling(op), type_name(left), type_name(right));
}

bool compare(Runtime& runtime, Operator op, const Value& left, const Value& right) {
  switch (op) {
    case Operator::kEqual:
      return are_equal(runtime, left, right);
    case Operator::kNotEqual:
      return !are_equal(runtime, left, right);
    case Operator::kLess:
      return is_less(runtime, left, right);
    case Operator::kGreater:
      return is_less(runtime, right, left);
    // not the negation of the opposite operator: with NaN neither holds
    case Operator::kLessEqual:
      return is_less(runtime, left, right) || are_equal(runtime, left, right);
    case Operator::kGreaterEqual:
      return is_less(runtime, right, left) || are_equal(runtime, left, right);
    case Operator::kIn:
      return contains(runtime, right, left);
    case Operator::kNotIn:
      return !contains(runtime, right, left);
    default:
      break;
  }
  runtime.fail("operator {} compares nothing", spelling(op));
}

bool contains(Runtime& runtime, const Value& container, const Value& sought) {
  if (const Text* text = container.text()) {
    if (!sought.text())
      runtime.fail("'in' a string needs a string on its left, not {}{}", type_name(sought),
                   sought.is<Undefined>() ? ": " + *std::get<Undefined>(sought.data).what : "");
    charge_search(runtime, *text, *sought.text());
    return text->bytes.find(sought.text()->bytes) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return find_key(runtime, *dict, sought) != nullptr;
  if (const Sequence* sequence = container.sequence()) {
    for (size_t i = sequence->num_taken; i < sequence->items.size(); ++i) {
      if (sequence->kind == SequenceKind::kGenerator) sequence->num_taken = i + 1;
      if (are_equal(runtime, sequence->items[i], sought)) return true;
    }
    return false;
  }
  if (container.is<Undefined>()) return false;
  runtime.fail("'in' needs a string, list or dict on its right, not {}", type_name(container));
}

Value negative(Runtime& runtime, const Value& value) {
  expect_defined(runtime, value);
  if (value.is_integer()) return Value(apply_to_integers(runtime, Operator::kSubtract, 0, value.integer()));
  if (value.is<double>()) return Value(-value.number());
  runtime.fail("operator - does not apply to {}", type_name(value));
}

static Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto item_at = [&](int64_t index, std::string_view what) {
    if (index < 0 || index >= static_cast<int64_t>(loop.items.size()))
      return Runtime::make_undefined(fmt::format("there is no {} item", what));
    return loop.items[index];
  };
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "index0") return Value(loop.index0);
  if (name == "revindex") return Value(loop.length - loop.index0);
  if (name == "revindex0") return Value(loop.length - loop.index0 - 1);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "last") return Value(loop.index0 + 1 == loop.length);
  if (name == "length") return Value(loop.length);
  if (name == "depth") return Value(loop.depth0 + 1);
  if (name == "depth0") return Value(loop.depth0);
  if (name == "previtem") return item_at(loop.index0 - 1, "previous");
  if (name == "nextitem") return item_at(loop.index0 + 1, "next");
  return Runtime::make_undefined(fmt::format("loop has no attribute '{}'", name));
}

static Value cycler_attribute(Runtime& runtime, const Cycler& cycler, std::string_view name) {
  if (name == "current") return cycler.items[cycler.position];
  if (name == "pos") return Value(static_cast<int64_t>(cycler.position));
  if (name == "items") return runtime.make_sequence(cycler.items, SequenceKind::kTuple);
  return Runtime::make_undefined(fmt::format("cycler has no attribute '{}'", name));
}

Value get_attribute(Runtime& runtime, const Value& object, std::string_view name, const Undefined* missing) {
  expect_defined(runtime, object);
  if (has_method(object, name)) return runtime.make_method(object, std::string(name));
  if (is_mutator(object, name))
    return Runtime::make_undefined(fmt::format("'{}' changes a {}, which templates must not", name, type_name(object)));
  if (object.is<Loop*>()) return loop_attribute(*std::get<Loop*>(object.data), name);
  if (object.is<Cycler*>()) return cycler_attribute(runtime, *std::get<Cycler*>(object.data), name);
  if (const Sequence* group = object.sequence(); group && group->is_group && (name == "grouper" || name == "list"))
    return group->items[name == "list"];
  if (object.is<Namespace*>()) {
    for (const auto& [known, value] : std::get<Namespace*>(object.data)->attributes)
      if (known == name) return value;
  } else if (const Dict* dict = object.dict()) {
    for (const auto& [key, value] : dict->entries) {
      runtime.charge(1);
      if (key.text() && key.text()->bytes == name) return value;
    }
    if (missing) return Value(*missing);
  }
  return Runtime::make_undefined(fmt::format("{} has no attribute '{}'", type_name(object), name));
}

// Resolves a Python index (negative: from the end); nullopt if it is out of range.
static std::optional<size_t> resolve_index(int64_t index, size_t size) {
  const auto length = static_cast<int64_t>(size);
  if (index < -length || index >= length) return std::nullopt;
  return static_cast<size_t>(index < 0 ? index + length : index);
}

static Value slice_of(Runtime& runtime, const Text& text, size_t begin, size_t end) {
  Text part = text.part(begin, end);
  part.is_markup = text.is_markup;
  return runtime.make_text(std::move(part));
}

Value get_item(Runtime& runtime, const Value& object, const Value& key) {
  expect_defined(runtime, object);
  if (const Dict* dict = object.dict())
    if (const Value* value = find_key(runtime, *dict, key)) return *value;
  if (key.is_integer() && is_indexable(object)) {
    const auto& items = object.sequence()->items;
    if (const auto index = resolve_index(key.integer(), items.size())) return items[*index];
  } else if (const Text* text = object.text(); text && key.is_integer()) {
    runtime.charge_scan(text->size());
    if (const auto at = code_point_offset(text->bytes, key.integer()))
      return slice_of(runtime, *text, *at, *at + code_point_size(text->bytes, *at));
  }
  if (const Text* name = key.text()) {
    const bool has_attributes = object.is<Loop*>() || object.is<Namespace*>() || object.is<Cycler*>() ||
                                (object.sequence() && object.sequence()->is_group);
    if (has_method(object, name->bytes) || has_attributes) return get_attribute(runtime, object, name->bytes);
    return Runtime::make_undefined(
        fmt::format("{} has no attribute '{}'", type_name(object), name->bytes.substr(0, 80)));
  }
  return Runtime::make_undefined(
      key.is_integer() ? fmt::format("{} has no element {}", type_name(object), key.integer())
                       : fmt::format("{} has no element for a key of type {}", type_name(object), type_name(key)));
}

Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop, const Value& step) {
  expect_defined(runtime, object);
  if (!object.text() && !is_indexable(object)) runtime.fail("a {} cannot be sliced", type_name(object));
  const auto bound = [&](const Value& value) -> std::optional<int64_t> {
    if (value.is<None>()) return std::nullopt;
    expect_defined(runtime, value);
    if (!value.is_integer()) runtime.fail("bounds of a slice must be int or none, not {}", type_name(value));
    return value.integer();
  };
  const auto first = bound(start), last = bound(stop);
  const int64_t stride = bound(step).value_or(1);
  if (stride == 0) runtime.fail("slice step cannot be zero");
  std::vector<size_t> offsets;
  if (object.text()) {
    runtime.charge_scan(object.text()->size());
    offsets = code_point_offsets(object.text()->bytes);
  }
  const auto size = static_cast<int64_t>(object.text() ? offsets.size() - 1 : object.sequence()->items.size());
  const auto clamp = [&](int64_t index) {
    if (index < 0) index = index < -size ? -1 : index + size;
    return stride > 0 ? std::clamp<int64_t>(index, 0, size) : std::clamp<int64_t>(index, -1, size - 1);
  };
  // a negative bound before the start means "before the first" only with a negative stride
  const int64_t begin = first ? clamp(*first) : stride > 0 ? 0 : size - 1;
  const int64_t end = last ? clamp(*last) : stride > 0 ? size : -1;
  std::vector<Value> items;
  Text out;
  for (int64_t i = begin; stride > 0 ? i < end : i > end;) {
    const auto index = static_cast<size_t>(i);
    runtime.charge(stride == 1 && object.text() ? 0 : 1);
    if (object.text() && stride == 1) {
      out = object.text()->part(offsets[index], offsets[end]);
      break;
    }
    if (object.text())
      out.append(object.text()->part(offsets[index], offsets[index + 1]));
    else
      items.push_back(object.sequence()->items[index]);
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  out.is_markup = object.text() && object.text()->is_markup;
  return object.text() ? runtime.make_text(std::move(out))
                       : runtime.make_sequence(std::move(items), object.sequence()->kind);
}

}  // namespace plumb::jinja
