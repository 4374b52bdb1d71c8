#include "io/huggingface/tensor_names.hpp"

#include <algorithm>
#include <array>

namespace plumb {

namespace {

constexpr std::array<std::string_view, 6> kWrappers = {
    "module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "language_model", "model"};
/// The parts of a decoder; those of the inner model are below "model.".
constexpr std::array<std::string_view, 3> kInnerParts = {"layers", "embed_tokens", "norm"};
constexpr std::array<std::string_view, 2> kHeads = {"lm_head", "score"};

template <class Names>
bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string hf_tensor_name(std::string_view name) {
  std::string_view rest = name;
  std::string_view first = rest.substr(0, rest.find('.'));
  while (contains(kWrappers, first) && first.size() < rest.size()) {
    rest.remove_prefix(first.size() + 1);
    first = rest.substr(0, rest.find('.'));
  }
  if (contains(kInnerParts, first)) return "model." + std::string(rest);
  return std::string(contains(kHeads, first) ? rest : name);
}

}  // namespace plumb
