#include "io/records/csv.hpp"

#include <algorithm>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr size_t kMaxCells = 65'536;

RecordPlace place_of_byte(std::string_view record, size_t offset, RecordPlace place) {
  place.line += std::count(record.begin(), record.begin() + static_cast<std::ptrdiff_t>(offset), '\n');
  return place;
}

/// Appends the quoted cell whose opening quote is at `begin`; returns the offset after its closing quote.
size_t read_quoted_cell(std::string_view record, size_t begin, const RecordPlace& place, std::string& cell) {
  size_t from = begin + 1;
  for (;;) {
    const size_t quote = record.find('"', from);
    if (quote == std::string_view::npos) {
      throw_error<DataError>("{}: expected a closing quote for the one opened here, got the end of the record",
                             to_string(place_of_byte(record, begin, place)));
    }
    cell.append(record, from, quote - from);
    if (quote + 1 == record.size() || record[quote + 1] != '"') return quote + 1;
    cell += '"';
    from = quote + 2;
  }
}

}  // namespace

void CsvRecordEnd::reset() { *this = CsvRecordEnd(delimiter_); }

size_t CsvRecordEnd::find(std::string_view bytes) {
  size_t i = num_seen_bytes_;
  // Kept across quotes, so that a long line with many quotes is searched for its end only once.
  size_t line_end = std::min(bytes.find('\n', i), bytes.size());
  while (i < bytes.size()) {
    switch (state_) {
      case State::kPlain: {
        if (line_end < i) line_end = std::min(bytes.find('\n', i), bytes.size());
        const size_t quote = bytes.substr(0, line_end).find('"', i);
        if (quote != std::string_view::npos) {
          i = quote + 1;
          if (quote == 0 || bytes[quote - 1] == delimiter_) state_ = State::kQuoted, quote_begin_ = quote;
        } else if (line_end < bytes.size()) {
          return line_end + 1;
        } else {
          i = bytes.size();
        }
        break;
      }
      case State::kQuoted: {
        const size_t quote = bytes.find('"', i);
        if (quote == std::string_view::npos) {
          i = bytes.size();
        } else {
          i = quote + 1;
          state_ = State::kAfterQuote;
        }
        break;
      }
      case State::kAfterQuote:
        if (bytes[i] == '"') {
          state_ = State::kQuoted;
          ++i;
        } else {
          state_ = State::kPlain;
        }
        break;
    }
  }
  num_seen_bytes_ = i;
  return 0;
}

void split_csv_record(std::string_view record, char delimiter, const RecordPlace& place,
                      std::vector<std::string>& cells) {
  size_t num_cells = 0;
  for (size_t i = 0;; ++i) {
    if (num_cells == kMaxCells) {
      throw_error<DataError>("{}: expected at most {} fields, got more", to_string(place), kMaxCells);
    }
    if (num_cells == cells.size()) cells.emplace_back();
    std::string& cell = cells[num_cells++];
    cell.clear();
    if (i < record.size() && record[i] == '"') {
      const size_t begin = i;
      i = read_quoted_cell(record, begin, place, cell);
      if (i < record.size() && record[i] != delimiter) {
        throw_error<DataError>(
            "{}: field {}: expected a separator or the end of the line after the closing quote, got text; a quote "
            "inside a quoted cell is written twice",
            to_string(place_of_byte(record, i, place)), num_cells);
      }
    } else {
      const size_t end = std::min(record.find(delimiter, i), record.size());
      if (record.substr(i, end - i).find('\r') != std::string_view::npos) {
        throw_error<DataError>(
            "{}: field {}: expected lines that end in LF or CRLF, got a carriage return alone; "
            "convert the file, or quote the cell",
            to_string(place_of_byte(record, i, place)), num_cells);
      }
      cell.assign(record, i, end - i);
      i = end;
    }
    if (i == record.size()) break;
  }
  cells.resize(num_cells);
}

}  // namespace plumb
