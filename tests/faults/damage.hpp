// Damage to files and disks, before a start or while a run is in progress.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/faults/fault_case.hpp"

namespace plumb::test {

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);

/// Flips one bit of the byte at `part` (0 to 1) of the file.
void flip_bit(const std::string& path, double part);

/// Regular files in a directory and its subdirectories whose names have this ending, sorted.
std::vector<std::string> files_below(const std::string& directory, const std::string& ending);

/// Moves place/run to a small file system of its own. Throws std::runtime_error if that is not permitted.
void put_on_own_disk(const Place& place);
/// Fills that file system except for this many bytes.
void fill_disk(const Place& place, int64_t free_bytes);
void free_disk(const Place& place);
void make_disk_read_only(const Place& place, bool is_read_only);
/// Unmounts the file system, if there is one.
void remove_disk(const Place& place) noexcept;

}  // namespace plumb::test
