// The counts of an index (io/dataset/dataset_index.hpp) as messages.
#pragma once

#include "io/dataset/dataset_index.hpp"

namespace plumb {

/// Throws DataError with the reasons if every row was dropped.
void check_rows_kept(const PrepareStatistics& statistics);

/// Rank 0 only: logs the counts, and warns of rows that may be a mistake.
void report_rows(const DatasetIndex& index);

}  // namespace plumb
