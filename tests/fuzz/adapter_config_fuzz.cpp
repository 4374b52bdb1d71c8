// adapter_config.json: accepted input round-trips, and its modules are resolved to layers of a small model or refused.
#include "io/huggingface/peft_config.hpp"
#include "io/huggingface/peft_targets.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb::fuzz {

bool accepts(std::string_view input) {
  LoraConfig config;
  if (!is_accepted([&] { config = parse_lora_config(input, "adapter_config.json"); })) return false;
  require(parse_lora_config(render_lora_config(config), "again") == config, "a config reads back");
  is_accepted([&] {
    const ModelConfig model = adapted_model(config, test::tiny_config());
    const Adapter parts = resolve_finished(config, model);
    require(!parts.targets.empty() || !parts.outer_targets.empty(), "an adapter adapts a layer");
    for (const LoraTarget& target : parts.targets)
      require(target.rank >= 1 && target.rank <= kMaxLoraRank, "a rank fits");
    for (const AdapterRows& rows : parts.rows)
      for (const int64_t token : rows.tokens) require(token < model.vocab_size, "a row is one of the matrix");
    check_patterns_name_targets(config, resolve_adapter(config, model), model);
  });
  return true;
}

}  // namespace plumb::fuzz
