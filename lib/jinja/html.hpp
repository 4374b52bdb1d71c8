// Text as HTML: escaping, and its opposite. Every byte that is made keeps the mark of what it stands for.
// Source: MarkupSafe, whose Markup strings Text::is_markup stands for.
#pragma once

#include "lib/jinja/value.hpp"

namespace plumb::jinja {

/// Writes & < > " ' as entities. The result is markup.
Text escape_html(Runtime& runtime, const Text& text);

/// The text of the value, escaped unless it is markup already.
Text to_markup(Runtime& runtime, const Value& value);

/// Removes tags and comments, joins white space to single spaces, and replaces entities by their characters. Fails on
/// a named entity that it does not know.
Text strip_tags(Runtime& runtime, const Text& text);

}  // namespace plumb::jinja
