// The text of a list in run.json, such as that of --data, and the list of such a text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// The words with blanks between them. One with blanks, or that begins with a quote, is in quotes; \" and \\ within
/// them.
std::string join_words(const std::vector<std::string>& words);

/// The words again, also of a text without such quotes.
std::vector<std::string> split_words(std::string_view text);

}  // namespace plumb
