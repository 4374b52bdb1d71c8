#include "io/run/notes.hpp"

#include <utility>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "lib/base/log.hpp"

namespace plumb {

using nlohmann::ordered_json;

void StageNotes::add_fact(const std::string& name, const ordered_json& value) {
  if (is_shown_) log_info("{}: {}", name, value.is_string() ? value.get<std::string>() : value.dump());
  notes_["facts"].push_back({{"name", name}, {"value", value}});
}

void StageNotes::add_warning(const std::string& text) {
  if (is_shown_) log_warning("{}", text);
  notes_["warnings"].push_back(text);
}

void StageNotes::add_table(const std::string& title, const std::vector<std::string>& columns, ordered_json rows) {
  notes_["tables"].push_back({{"title", title}, {"columns", columns}, {"rows", std::move(rows)}});
}

void StageNotes::add_sample(ordered_json sample) { notes_["samples"].push_back(std::move(sample)); }

void StageNotes::write(const std::string& path) const {
  if (notes_.empty()) return;
  write_file_atomically(path, notes_.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace plumb
