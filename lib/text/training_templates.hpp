// How templates of public models are changed to train on what the assistant says, where they have no {% generation %}:
// every turn is rendered as the last one would be, with its thoughts, and the trained part of a turn may begin within
// its header. Source: the training templates of TRL, whose text and masks these have.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// The source with conditions replaced that render earlier turns otherwise; most sources are returned as they are.
std::string training_source(std::string_view source);

/// The end of the assistant's header that is trained too: "" for most templates.
std::string_view trained_header(std::string_view source);

}  // namespace plumb
