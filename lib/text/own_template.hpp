// A named template as a model's own chat template: the Jinja source that others render.
#pragma once

#include <string>
#include <string_view>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct OwnTemplate {
  std::string source;
  bool gives_same_tokens = true;  // as the named template: false where no source does
};

/// Others tokenize what a template renders as it is, so the source also renders what the tokenizer puts before every
/// text (BOS), where the named template leaves that to the tokenizer. Throws UsageError for an unknown name.
OwnTemplate own_template(std::string_view name, const Tokenizer& tokenizer);

/// Whether a model's own template is the named one in this form.
bool is_own_form_of(std::string_view name, std::string_view source);

}  // namespace plumb
