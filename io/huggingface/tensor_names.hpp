// The names under which the tensors of a model may be found in files, and the one under which transformers has them.
// Trainers wrap a model before they save it (torch.compile, DDP, FSDP), some save the decoder without its head, and
// multimodal models hold the decoder as a part; each of these changes the beginning of every name.
// Source: torch.nn.Module.state_dict; transformers, base_model_prefix.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// "model.layers.3.self_attn.q_proj.weight" for "module.layers.3.self_attn.q_proj.weight"; a name that is none of a
/// decoder's is returned unchanged. Suffixes are kept.
std::string hf_tensor_name(std::string_view name);

}  // namespace plumb
