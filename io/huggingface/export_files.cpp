#include "io/huggingface/export_files.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;

namespace {

std::string file_name(const std::string& stem, size_t file, size_t num_files) {
  if (num_files == 1) return stem + ".safetensors";
  return fmt::format("{}-{:05}-of-{:05}.safetensors", stem, file + 1, num_files);
}

/// The indices of the tensors of each file.
std::vector<std::vector<size_t>> divide_among_files(std::span<const SafetensorsSpec> tensors, int64_t max_file_bytes) {
  std::vector<std::vector<size_t>> files(1);
  int64_t file_bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t num_bytes = tensors[i].num_bytes();
    if (file_bytes > 0 && num_bytes > max_file_bytes - file_bytes) {
      files.emplace_back();
      file_bytes = 0;
    }
    files.back().push_back(i);
    file_bytes += num_bytes;
  }
  return files;
}

}  // namespace

ExportFiles place_tensors(std::span<const SafetensorsSpec> tensors, int64_t max_file_bytes,
                          const std::string& file_stem) {
  check(max_file_bytes > 0, "files of an export have room");
  ExportFiles placed;
  placed.places.resize(tensors.size());
  std::vector<std::vector<size_t>> files = divide_among_files(tensors, max_file_bytes);
  for (size_t file = 0; file < files.size(); ++file) {
    std::stable_sort(files[file].begin(), files[file].end(),
                     [&](size_t a, size_t b) { return size_bytes(tensors[a].dtype) > size_bytes(tensors[b].dtype); });
    std::vector<SafetensorsSpec> specs;
    for (const size_t i : files[file]) specs.push_back(tensors[i]);
    ExportFile planned{file_name(file_stem, file, files.size()), render_safetensors_header(specs, {{"format", "pt"}}),
                       0};
    planned.size_bytes = static_cast<int64_t>(planned.header.size());
    for (const size_t i : files[file]) {
      placed.places[i] = {file, planned.size_bytes};
      planned.size_bytes += tensors[i].num_bytes();
      placed.tensor_bytes += tensors[i].num_bytes();
    }
    placed.files.push_back(std::move(planned));
  }
  return placed;
}

void create_export_files(std::span<const ExportFile> files, const std::string& temporary) {
  for (const ExportFile& planned : files) {
    File file = File::create(join_path(temporary, planned.name));
    file.reserve(planned.size_bytes);
    file.pwrite_exact(std::as_bytes(std::span(planned.header)), 0);
    file.close();
  }
  sync_directory(temporary);
}

void sync_export_files(std::span<const ExportFile> files, const std::string& temporary) {
  for (const ExportFile& planned : files) File::open_for_writing(join_path(temporary, planned.name)).sync();
}

void write_export_index(std::span<const ExportFile> files, const std::string& temporary,
                        const std::map<std::string, size_t>& file_by_tensor, int64_t num_parameters,
                        int64_t tensor_bytes) {
  if (files.size() < 2) return;
  json index = {{"metadata", {{"total_parameters", num_parameters}, {"total_size", tensor_bytes}}}};
  json& weight_map = index["weight_map"] = json::object();
  for (const auto& [tensor, file] : file_by_tensor) weight_map[tensor] = files[file].name;
  write_new_file(join_path(temporary, "model.safetensors.index.json"), index.dump(2) + "\n");
}

}  // namespace plumb
