// config.json of a model: accepted input round-trips, and the elements of its units can be counted.
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

namespace {

void check_units(const ModelConfig& config) {
  for (const UnitLayout& unit : unit_layouts(config)) {
    int64_t end = 0;
    for (const Parameter& parameter : unit.parameters) {
      require(parameter.offset >= end && parameter.num_elements() > 0, "parameters follow each other");
      end = parameter.offset + parameter.num_elements();
    }
    require(end <= unit.num_elements, "parameters lie within their unit");
  }
}

}  // namespace

bool accepts(std::string_view input) {
  ModelConfig config;
  if (!is_accepted([&] { config = parse_model_config(input, "config.json"); })) return false;
  require(std::ssize(config.sliding_window) == config.num_layers, "every layer has a window");
  const std::string rendered = render_model_config(config, "float32");
  require(render_model_config(parse_model_config(rendered, "again"), "float32") == rendered, "a config reads back");
  check_units(config);
  return true;
}

}  // namespace plumb::fuzz
