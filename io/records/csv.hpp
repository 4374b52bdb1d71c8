// Parses text tables with one separator: finds the ends of records and their cells. Cells may be quoted; a quoted cell
// may contain the separator, line ends and doubled quotes. A quote inside an unquoted cell is text, as csv writers
// leave it.
// Source: RFC 4180.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "io/records/record_place.hpp"

namespace plumb {

/// Finds the end of one record in bytes that arrive in pieces, in time linear in the record.
class CsvRecordEnd {
 public:
  explicit CsvRecordEnd(char delimiter) : delimiter_(delimiter) {}

  /// Forgets the previous record.
  void reset();

  /// `bytes` starts at the record and extends what the last call saw. Returns the size of the record with its line end,
  /// or 0 if the bytes end before the record does.
  size_t find(std::string_view bytes);

  bool is_in_quotes() const { return state_ == State::kQuoted; }
  /// Offset of the last opening quote, from the record's first byte.
  size_t quote_begin() const { return quote_begin_; }

 private:
  enum class State { kPlain, kQuoted, kAfterQuote };
  char delimiter_;
  State state_ = State::kPlain;
  size_t num_seen_bytes_ = 0;
  size_t quote_begin_ = 0;
};

/// Sets `cells` to the cells of a whole record without its line end. Throws DataError for text after a closing quote,
/// an unclosed quote (with the line that opens it), a carriage return that ends no line, and more than 65,536 cells.
void split_csv_record(std::string_view record, char delimiter, const RecordPlace& place,
                      std::vector<std::string>& cells);

}  // namespace plumb
