#include "io/records/arrow_json.hpp"

#include <arrow/array.h>
#include <arrow/extension_type.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "io/records/record_scanner.hpp"
#include "lib/base/check.hpp"
#include "lib/base/strict_json.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;
using arrow::Type;

constexpr int64_t kDayMilliseconds = 24 * 60 * 60 * 1000;

bool is_json_text(const arrow::DataType& type) {
  if (type.id() != Type::EXTENSION) return false;
  const auto& extension = static_cast<const arrow::ExtensionType&>(type);
  const Type::type storage = extension.storage_type()->id();
  return extension.extension_name() == "arrow.json" &&
         (storage == Type::STRING || storage == Type::LARGE_STRING || storage == Type::STRING_VIEW);
}

bool is_plain(Type::type type) {
  constexpr Type::type kPlain[] = {
      Type::NA,        Type::BOOL,     Type::INT8,         Type::INT16,       Type::INT32,      Type::INT64,
      Type::UINT8,     Type::UINT16,   Type::UINT32,       Type::UINT64,      Type::HALF_FLOAT, Type::FLOAT,
      Type::DOUBLE,    Type::STRING,   Type::LARGE_STRING, Type::STRING_VIEW, Type::DATE32,     Type::DATE64,
      Type::TIMESTAMP, Type::DURATION, Type::DECIMAL128,   Type::DECIMAL256};
  return std::find(std::begin(kPlain), std::end(kPlain), type) != std::end(kPlain);
}

void check_fields(const arrow::FieldVector& fields, const std::string& where, size_t depth);

void check_type(const arrow::DataType& type, const std::string& where, size_t depth) {
  if (depth > kMaxJsonDepth) throw_error<DataError>("{}: expected at most {} levels, got more", where, kMaxJsonDepth);
  switch (type.id()) {
    case Type::STRUCT:
      return check_fields(type.fields(), where, depth + 1);
    case Type::LIST:
    case Type::LARGE_LIST:
    case Type::FIXED_SIZE_LIST:
      return check_type(*type.field(0)->type(), where, depth + 1);
    case Type::DICTIONARY:
      return check_type(*static_cast<const arrow::DictionaryType&>(type).value_type(), where, depth + 1);
    default:
      if (is_plain(type.id()) || is_json_text(type)) return;
  }
  throw_error<DataError>(
      "{}: expected text, a number, a truth value, a date, or lists and structs of them, got {}; write the file again "
      "without this column",
      where, type.ToString());
}

void check_fields(const arrow::FieldVector& fields, const std::string& where, size_t depth) {
  std::set<std::string_view> names;
  for (const std::shared_ptr<arrow::Field>& field : fields) {
    check_utf8(field->name(), where);
    if (!names.insert(field->name()).second) {
      throw_error<DataError>("{}: expected names that differ, got \"{}\" twice", where, field->name());
    }
    check_type(*field->type(), fmt::format("{}: {}", where, field->name()), depth);
  }
}

template <class Array>
auto value_of(const arrow::Array& array, int64_t index) {
  return static_cast<const Array&>(array).Value(index);
}
template <class Array>
std::string_view view_of(const arrow::Array& array, int64_t index) {
  return static_cast<const Array&>(array).GetView(index);
}

/// An element of an array of text, of any kind.
std::string_view text_of(const arrow::Array& array, int64_t index) {
  if (array.type_id() == Type::LARGE_STRING) return view_of<arrow::LargeStringArray>(array, index);
  if (array.type_id() == Type::STRING_VIEW) return view_of<arrow::StringViewArray>(array, index);
  return view_of<arrow::StringArray>(array, index);
}

json finite_or_null(double value) { return std::isfinite(value) ? json(value) : json(); }

/// Milliseconds of a value are value * factor / divisor.
std::pair<int64_t, int64_t> milliseconds_of(arrow::TimeUnit::type unit) {
  switch (unit) {
    case arrow::TimeUnit::SECOND:
      return {1000, 1};
    case arrow::TimeUnit::MICRO:
      return {1, 1000};
    case arrow::TimeUnit::NANO:
      return {1, 1'000'000};
    default:
      return {1, 1};
  }
}

/// Numbers and truth values; nothing for other types.
std::optional<json> number(const arrow::Array& array, int64_t index) {
  switch (array.type_id()) {
    case Type::BOOL:
      return value_of<arrow::BooleanArray>(array, index);
    case Type::INT8:
      return value_of<arrow::Int8Array>(array, index);
    case Type::INT16:
      return value_of<arrow::Int16Array>(array, index);
    case Type::INT32:
      return value_of<arrow::Int32Array>(array, index);
    case Type::INT64:
      return value_of<arrow::Int64Array>(array, index);
    case Type::UINT8:
      return value_of<arrow::UInt8Array>(array, index);
    case Type::UINT16:
      return value_of<arrow::UInt16Array>(array, index);
    case Type::UINT32:
      return value_of<arrow::UInt32Array>(array, index);
    case Type::UINT64:
      return value_of<arrow::UInt64Array>(array, index);
    case Type::HALF_FLOAT:
      return finite_or_null(arrow::util::Float16::FromBits(value_of<arrow::HalfFloatArray>(array, index)).ToDouble());
    case Type::FLOAT:
      return finite_or_null(static_cast<double>(value_of<arrow::FloatArray>(array, index)));
    case Type::DOUBLE:
      return finite_or_null(value_of<arrow::DoubleArray>(array, index));
    default:
      return std::nullopt;
  }
}

}  // namespace

void check_schema(const arrow::Schema& schema, const std::string& path) {
  check_fields(schema.fields(), fmt::format("{}: column", path), 1);
}

json ArrowRows::row(const arrow::RecordBatch& batch, int64_t row, const std::string& where) {
  where_ = &where;
  num_bytes_ = 0;
  json object = json::object();
  auto& entries = object.get_ref<json::object_t&>();
  // the names differ, so none is searched for
  for (int i = 0; i < batch.num_columns(); ++i) entries.push_back({batch.column_name(i), value(*batch.column(i), row)});
  return object;
}

json ArrowRows::value(const arrow::Array& array, int64_t index) {
  count(1);
  if (array.IsNull(index)) return {};
  if (std::optional<json> found = number(array, index)) return std::move(*found);
  switch (array.type_id()) {
    case Type::STRING:
    case Type::LARGE_STRING:
    case Type::STRING_VIEW:
      return text(text_of(array, index));
    case Type::EXTENSION:
      return parsed(text_of(*static_cast<const arrow::ExtensionArray&>(array).storage(), index));
    case Type::DATE32:
      return milliseconds(value_of<arrow::Date32Array>(array, index), kDayMilliseconds, 1);
    case Type::DATE64:
      return value_of<arrow::Date64Array>(array, index);
    case Type::TIMESTAMP: {
      const auto [factor, divisor] = milliseconds_of(static_cast<const arrow::TimestampType&>(*array.type()).unit());
      return milliseconds(value_of<arrow::TimestampArray>(array, index), factor, divisor);
    }
    case Type::DURATION: {
      const auto [factor, divisor] = milliseconds_of(static_cast<const arrow::DurationType&>(*array.type()).unit());
      return milliseconds(value_of<arrow::DurationArray>(array, index), factor, divisor);
    }
    case Type::DECIMAL128:
      return static_cast<const arrow::Decimal128Array&>(array).FormatValue(index);
    case Type::DECIMAL256:
      return static_cast<const arrow::Decimal256Array&>(array).FormatValue(index);
    case Type::LIST: {
      const auto& lists = static_cast<const arrow::ListArray&>(array);
      return list(*lists.values(), lists.value_offset(index), lists.value_length(index));
    }
    case Type::LARGE_LIST: {
      const auto& lists = static_cast<const arrow::LargeListArray&>(array);
      return list(*lists.values(), lists.value_offset(index), lists.value_length(index));
    }
    case Type::FIXED_SIZE_LIST: {
      const auto& lists = static_cast<const arrow::FixedSizeListArray&>(array);
      return list(*lists.values(), lists.value_offset(index), lists.value_length(index));
    }
    case Type::STRUCT: {
      const auto& structs = static_cast<const arrow::StructArray&>(array);
      json object = json::object();
      auto& entries = object.get_ref<json::object_t&>();
      for (int i = 0; i < structs.num_fields(); ++i) {
        entries.push_back({structs.type()->field(i)->name(), value(*structs.field(i), index)});
      }
      return object;
    }
    case Type::DICTIONARY: {
      const auto& codes = static_cast<const arrow::DictionaryArray&>(array);
      const int64_t code = codes.GetValueIndex(index);
      if (code >= 0 && code < codes.dictionary()->length()) return value(*codes.dictionary(), code);
      throw_error<DataError>("{}: expected a code below {}, the size of the dictionary, got {}", *where_,
                             codes.dictionary()->length(), code);
    }
    default:
      return {};  // of the type of nulls
  }
}

json ArrowRows::list(const arrow::Array& values, int64_t begin, int64_t size) {
  json array = json::array();
  for (int64_t i = begin; i < begin + size; ++i) array.push_back(value(values, i));
  return array;
}

json ArrowRows::text(std::string_view text) {
  count(text.size());
  check_utf8(text, *where_);
  return std::string(text);
}

json ArrowRows::parsed(std::string_view text) {
  count(text.size());
  check_utf8(text, *where_);
  return parse_strict_json<json>(text, [&](std::optional<size_t> position, const std::string& reason) {
    throw_error<DataError>("{}: a value of JSON: {}{}", *where_,
                           position ? fmt::format("byte {}: ", *position) : std::string(), reason);
  });
}

json ArrowRows::milliseconds(int64_t value, int64_t factor, int64_t divisor) {
  int64_t product = 0;
  if (__builtin_mul_overflow(value, factor, &product)) {
    throw_error<DataError>("{}: expected a time within 292 million years of 1970, got another", *where_);
  }
  const int64_t quotient = product / divisor;
  return product % divisor < 0 ? quotient - 1 : quotient;  // rounded down
}

void ArrowRows::count(size_t num_bytes) {
  num_bytes_ += static_cast<int64_t>(num_bytes);
  if (num_bytes_ <= kMaxRecordBytes) return;
  throw_error<DataError>("{}: expected a row of at most {} bytes, got a longer one", *where_, kMaxRecordBytes);
}

}  // namespace plumb
