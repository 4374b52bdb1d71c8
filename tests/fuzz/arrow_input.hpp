// Arrow's types and values as the input of a fuzz target spells them, so that every type, nesting and null is reached
// without a file: a type is a byte and what it holds, then each array is its nulls and values. At the end of the input
// everything is empty.
#pragma once

#include <arrow/array.h>
#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/extension/json.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

class ArrowInput {
 public:
  explicit ArrowInput(std::string_view input) : input_(input) {}

  std::shared_ptr<arrow::Schema> schema() {
    num_rows_ = 1 + take() % 8;
    return arrow::schema(fields(1 + take() % 4, num_rows_));
  }

  /// Rows of a schema() whose types are those of JSON.
  std::shared_ptr<arrow::RecordBatch> rows(const std::shared_ptr<arrow::Schema>& schema) {
    std::vector<std::shared_ptr<arrow::ArrayData>> columns;
    for (const auto& field : schema->fields()) columns.push_back(array(field->type(), num_rows_));
    return arrow::RecordBatch::Make(schema, num_rows_, std::move(columns));
  }

 private:
  using Type = arrow::Type;
  static constexpr int64_t kMaxElements = 1024;

  uint8_t take() {
    if (input_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(input_.front());
    input_.remove_prefix(1);
    return byte;
  }

  std::string take_text() {
    const std::string_view text = input_.substr(0, take() % 32);
    input_.remove_prefix(text.size());
    return std::string(text);
  }

  arrow::FieldVector fields(int64_t count, int64_t num_elements) {
    arrow::FieldVector fields;
    for (int64_t i = 0; i < count; ++i) {
      std::string name = take_text();
      fields.push_back(arrow::field(std::move(name), type(num_elements)));
    }
    return fields;
  }

  /// Type of arrays of at most `num_elements` elements.
  std::shared_ptr<arrow::DataType> type(int64_t num_elements) {
    constexpr arrow::TimeUnit::type kUnits[] = {arrow::TimeUnit::SECOND, arrow::TimeUnit::MILLI, arrow::TimeUnit::MICRO,
                                                arrow::TimeUnit::NANO};
    static const std::shared_ptr<arrow::DataType> plain[] = {arrow::null(),
                                                             arrow::boolean(),
                                                             arrow::int8(),
                                                             arrow::int16(),
                                                             arrow::int32(),
                                                             arrow::int64(),
                                                             arrow::uint8(),
                                                             arrow::uint16(),
                                                             arrow::uint32(),
                                                             arrow::uint64(),
                                                             arrow::float16(),
                                                             arrow::float32(),
                                                             arrow::float64(),
                                                             arrow::utf8(),
                                                             arrow::large_utf8(),
                                                             arrow::utf8_view(),
                                                             arrow::date32(),
                                                             arrow::date64(),
                                                             arrow::binary(),
                                                             arrow::time32(arrow::TimeUnit::SECOND),
                                                             arrow::month_interval(),
                                                             arrow::fixed_size_binary(3),
                                                             arrow::extension::json(arrow::utf8()),
                                                             arrow::extension::json(arrow::large_utf8())};
    constexpr uint8_t kNumNested = 10;
    const uint8_t choice = take() % (std::size(plain) + kNumNested);
    if (choice < std::size(plain)) return plain[choice];
    switch (choice - std::size(plain)) {
      case 0:
        return arrow::timestamp(kUnits[take() % 4]);
      case 1:
        return arrow::duration(kUnits[take() % 4]);
      case 2:
        return arrow::decimal128(3 + take() % 36, take() % 8);
      case 3:
        return arrow::decimal256(3 + take() % 74, take() % 8);
      case 4:
        return arrow::list(type(kMaxElements));
      case 5:
        return arrow::large_list(type(kMaxElements));
      case 6: {
        const int32_t size = num_elements <= kMaxElements ? take() % 4 : 0;
        return arrow::fixed_size_list(type(size * num_elements), size);
      }
      case 7:
        return arrow::struct_(fields(take() % 4, num_elements));
      case 8:
        return arrow::dictionary(arrow::int8(), type(kNumCodes));
      default:
        return arrow::map(arrow::utf8(), type(num_elements));
    }
  }

  std::shared_ptr<arrow::ArrayData> array(const std::shared_ptr<arrow::DataType>& type, int64_t length) {
    if (type->id() == Type::NA) return arrow::ArrayData::Make(type, length, {nullptr}, length);
    if (type->id() == Type::EXTENSION) {
      auto data = array(static_cast<const arrow::ExtensionType&>(*type).storage_type(), length)->Copy();
      data->type = type;
      return data;
    }
    const std::shared_ptr<arrow::Buffer> valid = bits(length);
    switch (type->id()) {
      case Type::BOOL:
        return arrow::ArrayData::Make(type, length, {valid, bits(length)});
      case Type::STRING:
        return texts<arrow::StringBuilder>(length);
      case Type::LARGE_STRING:
        return texts<arrow::LargeStringBuilder>(length);
      case Type::STRING_VIEW:
        return texts<arrow::StringViewBuilder>(length);
      case Type::LIST:
        return lists<int32_t>(type, length, valid);
      case Type::LARGE_LIST:
        return lists<int64_t>(type, length, valid);
      case Type::FIXED_SIZE_LIST: {
        const int32_t size = static_cast<const arrow::FixedSizeListType&>(*type).list_size();
        return arrow::ArrayData::Make(type, length, {valid}, {array(type->field(0)->type(), size * length)});
      }
      case Type::STRUCT: {
        std::vector<std::shared_ptr<arrow::ArrayData>> children;
        for (const auto& field : type->fields()) children.push_back(array(field->type(), length));
        return arrow::ArrayData::Make(type, length, {valid}, std::move(children));
      }
      case Type::DICTIONARY: {
        auto data = arrow::ArrayData::Make(type, length, {valid, numbers(*arrow::int8(), length)});
        data->dictionary = array(static_cast<const arrow::DictionaryType&>(*type).value_type(), kNumCodes);
        return data;
      }
      default:
        return arrow::ArrayData::Make(type, length, {valid, numbers(*type, length)});
    }
  }

  /// Three of four are set.
  std::shared_ptr<arrow::Buffer> bits(int64_t length) {
    std::string bytes(static_cast<size_t>(length / 8 + 1), '\xff');
    for (int64_t i = 0; i < length; ++i) {
      if (take() % 4 == 1) bytes[static_cast<size_t>(i / 8)] &= static_cast<char>(~(1 << i % 8));
    }
    return arrow::Buffer::FromString(std::move(bytes));
  }

  /// Small ones, and for types without a precision now and then any.
  std::shared_ptr<arrow::Buffer> numbers(const arrow::DataType& type, int64_t length) {
    constexpr int64_t kDayMilliseconds = 24 * 60 * 60 * 1000;
    const auto width = static_cast<size_t>(type.byte_width());
    std::string bytes;
    for (int64_t i = 0; i < length; ++i) {
      const auto small = static_cast<int8_t>(take());
      std::string number(width, small < 0 ? '\xff' : '\0');
      const int64_t value = type.id() == Type::DATE64 ? small * kDayMilliseconds : small;
      number.replace(0, std::min(width, sizeof value), reinterpret_cast<const char*>(&value),
                     std::min(width, sizeof value));
      const bool is_any = small == 100 && width <= 8 && type.id() != Type::DATE64 && type.id() != Type::INT8;
      for (size_t k = 0; is_any && k < width; ++k) number[k] = static_cast<char>(take());
      bytes += number;
    }
    return arrow::Buffer::FromString(std::move(bytes));
  }

  template <class Builder>
  std::shared_ptr<arrow::ArrayData> texts(int64_t length) {
    Builder builder;
    for (int64_t i = 0; i < length; ++i) {
      const arrow::Status added = take() % 4 == 1 ? builder.AppendNull() : builder.Append(take_text());
      require(added.ok(), "memory for a few texts");
    }
    return (*builder.Finish())->data();
  }

  template <class Offset>
  std::shared_ptr<arrow::ArrayData> lists(const std::shared_ptr<arrow::DataType>& type, int64_t length,
                                          const std::shared_ptr<arrow::Buffer>& valid) {
    std::vector<Offset> offsets = {0};
    for (int64_t i = 0; i < length; ++i) {
      const Offset size = take() % 4;
      offsets.push_back(offsets.back() + (offsets.back() + size <= kMaxElements ? size : 0));
    }
    const int64_t num_elements = offsets.back();
    return arrow::ArrayData::Make(type, length, {valid, arrow::Buffer::FromVector(std::move(offsets))},
                                  {array(type->field(0)->type(), num_elements)});
  }

  static constexpr int64_t kNumCodes = 3;
  std::string_view input_;
  int64_t num_rows_ = 0;
};

}  // namespace plumb::fuzz
