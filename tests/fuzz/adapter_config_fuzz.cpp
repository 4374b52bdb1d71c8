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
    const Adapter adapter = resolve_adapter(config, test::tiny_config());
    require(!adapter.targets.empty(), "an adapter adapts a layer");
    for (const LoraTarget& target : adapter.targets) require(target.rank >= 1 && target.rank <= 52, "a rank fits");
    check_patterns_name_targets(config, adapter, test::tiny_config());
  });
  return true;
}

}  // namespace plumb::fuzz
