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

/// One bit of the byte at `part` (0 to 1) of the file's length.
void flip_bit(const std::string& path, double part);

/// Regular files below a directory whose names end so, sorted.
std::vector<std::string> files_below(const std::string& directory, const std::string& ending);

/// place/run becomes a disk of its own, with what it held. Throws std::runtime_error where that is not allowed.
void put_on_own_disk(const Place& place);
/// Fills it, but for so many bytes, with one file.
void fill_disk(const Place& place, int64_t free_bytes);
void free_disk(const Place& place);
void make_disk_read_only(const Place& place, bool is_read_only);
/// Takes the disk away, if there is one.
void remove_disk(const Place& place) noexcept;

}  // namespace plumb::test
