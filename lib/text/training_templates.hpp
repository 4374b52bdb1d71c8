// How templates of public models are changed to train on what the assistant says, where they have no {% generation %}:
// every turn is rendered as the last one would be, with its thoughts, and the trained part of a turn may begin within
// its header. Source: the training templates of TRL, whose text and masks these have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// The source with conditions replaced that render earlier turns otherwise; most sources are returned as they are.
std::string training_source(std::string_view source);

/// Ends of the assistant's header that are trained too: none for most templates.
std::vector<std::string_view> trained_headers(std::string_view source);

}  // namespace plumb
