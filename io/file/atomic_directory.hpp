// A directory that appears complete or not at all: filled under a temporary name beside the final one and renamed when
// everything is on the device. A reader, or a crash, sees the old model or the new one.
#pragma once

#include <string>

namespace plumb {

enum class ExistingDirectory { kRefuse, kReplace };

/// Rank 0 only: makes an empty directory beside `directory` and returns its path. Throws UsageError if `directory`
/// exists and is not empty, unless it is a model directory and may be replaced.
std::string begin_export(const std::string& directory, ExistingDirectory existing = ExistingDirectory::kRefuse);

/// Rank 0 only: the temporary directory takes the final name; a model that was there is removed afterward.
void commit_export(const std::string& temporary, const std::string& directory,
                   ExistingDirectory existing = ExistingDirectory::kRefuse);

/// Rank 0 only: removes the temporary directory.
void abandon_export(const std::string& temporary) noexcept;

/// Rank 0 only: removes temporary directories that killed processes left beside `directory`. Only where no other
/// process can be exporting to it.
void remove_stale_exports(const std::string& directory);

}  // namespace plumb
