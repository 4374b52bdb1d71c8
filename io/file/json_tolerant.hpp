// Reads from JSON that may hold anything: a value that is not of the expected type counts as absent.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace plumb {

using OrderedJson = nlohmann::ordered_json;

/// The field, or null where `object` is no object or has none.
const OrderedJson& get_or_null(const OrderedJson& object, const char* key);
std::optional<double> get_number(const OrderedJson& object, const char* key);
/// Whole numbers from 0 on; else 0.
int64_t get_count(const OrderedJson& object, const char* key);
std::string get_text(const OrderedJson& object, const char* key);

/// The file's JSON; null where there is no file. What cannot be read is null too and adds a line to `problems`.
OrderedJson read_json_file(const std::string& path, std::vector<std::string>& problems);

}  // namespace plumb
