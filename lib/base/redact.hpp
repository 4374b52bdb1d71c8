// Leaves possible secrets out of all that plumb writes about itself: log lines, and the options in run.json,
// pipeline.json and checkpoints. Nothing ever prints the environment.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// `text` with *** in place of the credentials and the query of URLs, of access tokens by their known beginnings
/// (hf_...), of what follows "Bearer ", and of the values of names like HF_TOKEN= or AWS_SECRET_ACCESS_KEY=.
std::string redact_secrets(std::string_view text);

}  // namespace plumb
