// Training data for tests, as the text of JSON Lines files: the same rows for every call, of different lengths.
#pragma once

#include <string>

namespace plumb::test {

/// Prompts with completions.
std::string rows(int count);

/// Prompts with a chosen and a rejected completion.
std::string pairs(int count);

}  // namespace plumb::test
