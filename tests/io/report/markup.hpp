// A parser for the markup that plumb writes, strict enough to detect text that became markup.
#pragma once

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

struct Markup {
  std::multiset<std::string> elements;
  std::set<std::string> attributes;
  std::string text;  // text of all elements but style, entities unresolved
  std::vector<std::string> errors;

  size_t count(const std::string& element) const { return elements.count(element); }
};

/// Elements must be closed in order, attributes quoted, and every & must start an entity.
inline Markup parse_markup(std::string_view rest) {
  Markup markup;
  std::vector<std::string> open;
  const auto fail = [&](const std::string& what) {
    markup.errors.push_back(what + " before: " + std::string(rest.substr(0, 60)));
  };
  const auto take_text = [&](std::string_view text) {
    for (size_t at = text.find('&'); at != std::string_view::npos; at = text.find('&', at + 1)) {
      bool is_entity = false;
      for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
        is_entity = is_entity || text.substr(at).starts_with(entity);
      if (!is_entity) fail("an & that begins no entity");
    }
    if (text.find('>') != std::string_view::npos) fail("a > in text");
    markup.text += text;
  };
  if (rest.starts_with("<!DOCTYPE html>")) rest.remove_prefix(15);
  while (!rest.empty() && markup.errors.size() < 5) {
    const size_t begin = std::min(rest.find('<'), rest.size());
    take_text(rest.substr(0, begin));
    rest.remove_prefix(begin);
    if (rest.empty()) break;
    if (rest.starts_with("</")) {
      const size_t end = std::min(rest.find('>'), rest.size() - 1);
      const std::string name(rest.substr(2, end - 2));
      if (open.empty() || open.back() != name) fail("an end of " + name + " that is not open");
      if (!open.empty()) open.pop_back();
      rest.remove_prefix(end + 1);
      continue;
    }
    rest.remove_prefix(1);
    const size_t name_end = rest.find_first_of(" />");
    const std::string name(rest.substr(0, name_end));
    if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") != std::string::npos)
      fail("no name of an element: " + name);
    markup.elements.insert(name);
    rest.remove_prefix(std::min(name_end, rest.size()));
    while (rest.starts_with(" ")) {
      rest.remove_prefix(1);
      const size_t equals = rest.find("=\"");
      const size_t end = equals == std::string_view::npos ? equals : rest.find('"', equals + 2);
      if (end == std::string_view::npos) {
        fail("an attribute without quotes");
        return markup;
      }
      markup.attributes.emplace(rest.substr(0, equals));
      rest.remove_prefix(end + 1);
    }
    const bool is_empty = rest.starts_with("/>");
    if (!is_empty && !rest.starts_with(">")) fail("no end of the tag " + name);
    rest.remove_prefix(std::min<size_t>(is_empty ? 2 : 1, rest.size()));
    if (name == "style") rest.remove_prefix(std::min(rest.find("</style>"), rest.size()));
    if (!is_empty) open.push_back(name);
  }
  if (!open.empty()) fail(open.back() + " is never closed");
  return markup;
}

inline Markup expect_well_formed(std::string_view text) {
  Markup markup = parse_markup(text);
  EXPECT_TRUE(markup.errors.empty()) << (markup.errors.empty() ? "" : markup.errors[0]);
  EXPECT_EQ(markup.count("script"), 0u);
  for (const std::string& attribute : markup.attributes) EXPECT_FALSE(attribute.starts_with("on")) << attribute;
  return markup;
}

}  // namespace plumb
