// A choice is an enum class with one table of names. Parsing, help and error messages all read that table.
#pragma once

#include <array>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace plumb {

template <class E>
struct Named {
  std::string_view name;
  E value;
};

/// The names of E: a table of Named<E>, specialized beside the enum. A value may have several names; name_of() gives
/// the first.
template <class E>
inline constexpr std::nullptr_t kNames = nullptr;

template <class E>
concept NamedEnum = std::is_enum_v<E> && !std::is_null_pointer_v<std::remove_cv_t<decltype(kNames<E>)>>;

template <NamedEnum E>
constexpr std::string_view name_of(E value) {
  for (const Named<E>& named : kNames<E>)
    if (named.value == value) return named.name;
  throw std::logic_error("an enum value without a name");
}

template <NamedEnum E>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  for (const Named<E>& named : kNames<E>) names.emplace_back(named.name);
  return names;
}

/// UsageError "--dtype bf16: expected one of float32, bfloat16; did you mean bfloat16?"
[[noreturn]] void throw_not_one_of(std::string_view option, std::string_view got, std::span<const std::string> choices);

/// Throws UsageError that lists the names.
template <NamedEnum E>
E value_named(std::string_view name, std::string_view option) {
  for (const Named<E>& named : kNames<E>)
    if (named.name == name) return named.value;
  throw_not_one_of(option, name, names_of<E>());
}

}  // namespace plumb
