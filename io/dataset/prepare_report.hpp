// What became of the rows, in words.
#pragma once

#include "io/dataset/dataset_index.hpp"

namespace plumb {

/// Throws DataError that says why every row was dropped, if so.
void check_rows_kept(const PrepareStatistics& statistics);

/// Logs what a person should know of the data. Rank 0 only.
void report_rows(const DatasetIndex& index);

}  // namespace plumb
