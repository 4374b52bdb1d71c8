#include "io/report/parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/file/json_tolerant.hpp"
#include "io/report/style.hpp"
#include "io/report/svg_plot.hpp"
#include "io/report/text.hpp"

namespace plumb {
namespace {

constexpr size_t kMaxRows = 200;
constexpr size_t kMaxColumns = 12;
constexpr size_t kMaxSamples = 30;
constexpr size_t kMaxPlaces = 20;
constexpr size_t kMaxCellBytes = 400;
constexpr size_t kMaxSampleBytes = 3000;

/// "-1,234.5", "93.7 %", "2e-05", "32-63", "48 MiB"
bool looks_like_a_number(std::string cell) {
  for (const std::string_view unit : {" %", " MiB", " GiB", " min", " s", " h", " k", " M", " B", "\u00b1"}) {
    const size_t at = cell.rfind(unit);
    if (at != std::string::npos) cell.erase(at, unit.size());
  }
  return !cell.empty() && cell.size() < 24 && cell.find_first_of("0123456789") != std::string::npos &&
         cell.find_first_not_of("0123456789.,+-e ") == std::string::npos;
}

bool is_number_column(const TableSummary& table, size_t column) {
  bool has_number = false;
  for (const auto& row : table.rows) {
    if (column >= row.size() || row[column].empty()) continue;
    if (!looks_like_a_number(row[column])) return false;
    has_number = true;
  }
  return has_number;
}

/// True if a value in [0, 1] with this name is a fraction.
bool is_fraction_name(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  if (lower.find("learning") != std::string::npos) return false;
  for (const char* word : {"rate", "accurac", "match", "share", "agreement", "fraction"})
    if (lower.find(word) != std::string::npos) return true;
  return false;
}

std::string render_cards(const SampleSummary& sample) {
  std::string prompt, columns;
  for (const auto& [key, text] : sample) {
    if (key == "prompt") {
      prompt = fmt::format("<h4>Prompt</h4><div class=\"text prompt\">{}</div>", escape_html(text, kMaxSampleBytes));
    } else {
      columns += fmt::format(
          "<div><h4>{}</h4><div class=\"text\">{}</div></div>", escape_html(readable_name(key), kMaxCellBytes),
          text.empty() ? "<span class=\"quiet\">nothing</span>" : escape_html(text, kMaxSampleBytes));
    }
  }
  return fmt::format("<div class=\"sample\">{}<div class=\"columns\">{}</div></div>\n", prompt, columns);
}

/// "train.csv:3, 17; other.csv:2": consecutive places in one file share its name.
std::string render_places(const std::vector<std::string>& places) {
  std::string out, file_before;
  for (size_t i = 0; i < places.size() && i < kMaxPlaces; ++i) {
    const size_t colon = std::min(places[i].rfind(':'), places[i].size());
    const std::string file = places[i].substr(0, colon);
    const bool is_same_file = i > 0 && file == file_before && colon < places[i].size();
    out += i == 0 ? "" : is_same_file ? ", " : "; ";
    out += escape_html(is_same_file ? places[i].substr(colon + 1) : places[i], 120);
    file_before = file;
  }
  return out;
}

std::string render_tallies(const std::vector<TallySummary>& tallies) {
  if (tallies.empty()) return "";
  std::string out =
      "<div class=\"scroll\"><table class=\"wide\"><tr><th>Outcome of rows</th><th class=\"number\">Rows</th>"
      "<th>The first of them</th></tr>";
  for (const TallySummary& tally : tallies) {
    std::string places = render_places(tally.first_places);
    if (tally.num_rows > static_cast<int64_t>(std::min(tally.first_places.size(), kMaxPlaces))) places += ", \u2026";
    out += fmt::format("<tr><td>{}</td><td class=\"number\">{}</td><td class=\"places\">{}</td></tr>",
                       escape_html(readable_name(tally.name), 200), render_count(tally.num_rows), places);
  }
  return out + "</table></div>\n";
}

/// "length_histogram_by_power_of_two" as "Lengths"; "chosen_length_histogram" as "Lengths, chosen".
std::string histogram_title(std::string name) {
  std::string rest;
  for (const char* part : {"length_histogram_by_power_of_two", "length_histogram", "histogram"}) {
    const size_t at = name.find(part);
    if (at == std::string::npos) continue;
    rest = name.erase(at, std::string_view(part).size());
    break;
  }
  while (!rest.empty() && (rest.back() == '_' || rest.front() == '_'))
    rest.back() == '_' ? rest.pop_back() : static_cast<void>(rest.erase(0, 1));
  std::replace(rest.begin(), rest.end(), '_', ' ');
  return rest.empty() ? "Lengths" : "Lengths, " + rest;
}

std::string render_histogram(const std::string& dataset, const std::string& name, const std::vector<double>& counts) {
  size_t first = counts.size(), last = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (!(counts[i] > 0)) continue;
    first = std::min(first, i);
    last = i;
  }
  if (first > last) return "";
  BarPlot plot{dataset + ": " + histogram_title(name), "rows by tokens", {}, {}};
  for (size_t i = first; i <= last + 1; ++i) {
    plot.edges.push_back(i < 14 ? std::to_string(1 << i) : render_magnitude(std::ldexp(1.0, static_cast<int>(i))));
    if (i <= last) plot.counts.push_back(counts[i]);
  }
  return render_bar_plot(plot);
}

std::string count_of(const DatasetSummary& dataset, const char* key) {
  const double value = dataset.number(key).value_or(0);
  return std::abs(value) < 1e18 ? render_count(static_cast<int64_t>(value)) : render_number(value);
}

std::string describe_dataset(const DatasetSummary& dataset) {
  std::string text = fmt::format("{} of {} rows kept, {} tokens", count_of(dataset, "rows_kept"),
                                 count_of(dataset, "rows_read"), count_of(dataset, "tokens"));
  if (dataset.number("trained_tokens"))
    text += fmt::format(", of which {} are trained", count_of(dataset, "trained_tokens"));
  text += ".";
  if (dataset.number("max_row_tokens"))
    text += fmt::format(" The longest row has {} tokens; ", count_of(dataset, "max_row_tokens")) +
            (dataset.number("rows_truncated").value_or(0) > 0
                 ? fmt::format("{} rows were cut off.", count_of(dataset, "rows_truncated"))
                 : "none was cut off.");
  if (const auto share = dataset.number("share_ending_in_trained_eos"))
    text += fmt::format(" {} of rows end in an end-of-sequence token that is trained.", render_share(*share));
  return text;
}

/// The numbers that the sentence above leaves out.
std::string render_other_numbers(const DatasetSummary& dataset) {
  TableSummary table{"", {"Also counted", ""}, {}};
  for (const auto& [key, value] : dataset.numbers) {
    if (key == "rows_kept" || key == "rows_read" || key == "tokens" || key == "trained_tokens" ||
        key == "max_row_tokens" || key == "rows_truncated" || key == "share_ending_in_trained_eos" ||
        key == "rows_ending_in_trained_eos" || key == "max_token_id")
      continue;
    table.rows.push_back({readable_name(key), render_fact(key, value)});
  }
  return table.rows.empty() ? "" : render_table(table);
}

}  // namespace

std::string render_page(const std::string& title, const std::string& body, bool is_unfinished) {
  // defense in depth: even if markup got through the escaping, the policy lets it load and run nothing
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>{}"
      "<title>{} \u2013 plumb</title>\n<style>{}</style></head>\n<body><main>\n{}</main></body></html>\n",
      is_unfinished ? "<meta http-equiv=\"refresh\" content=\"30\"/>" : "", escape_html(title, 200), kReportStyle,
      body);
}

std::string render_figures(const std::vector<KeyFigure>& figures) {
  if (figures.empty()) return "";
  std::string out = "<dl class=\"figures\">";
  for (const KeyFigure& figure : figures) {
    out +=
        fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>", escape_html(figure.label, 80), escape_html(figure.value, 80),
                    figure.remark.empty() ? "" : "<small>" + escape_html(figure.remark, 120) + "</small>");
  }
  return out + "</dl>\n";
}

std::string render_table(const TableSummary& table) {
  size_t num_columns = table.columns.size();
  for (const auto& row : table.rows) num_columns = std::max(num_columns, row.size());
  num_columns = std::min(num_columns, kMaxColumns);
  std::vector<const char*> kinds;
  for (size_t i = 0; i < num_columns; ++i) kinds.push_back(is_number_column(table, i) ? " class=\"number\"" : "");
  std::string out = table.title.empty() ? "" : "<h3>" + escape_html(table.title, 200) + "</h3>";
  out += "<div class=\"scroll\"><table>";
  if (!table.columns.empty()) {
    out += "<tr>";
    for (size_t i = 0; i < num_columns; ++i)
      out += fmt::format("<th{}>{}</th>", kinds[i], i < table.columns.size() ? escape_html(table.columns[i], 120) : "");
    out += "</tr>";
  }
  for (size_t i = 0; i < table.rows.size() && i < kMaxRows; ++i) {
    out += "<tr>";
    for (size_t j = 0; j < num_columns; ++j) {
      out += fmt::format("<td{}>{}</td>", kinds[j],
                         j < table.rows[i].size() ? escape_html(table.rows[i][j], kMaxCellBytes) : "");
    }
    out += "</tr>";
  }
  out += "</table></div>\n";
  if (table.rows.size() > kMaxRows)
    out += fmt::format("<p class=\"quiet\">The first {} of {} rows.</p>", kMaxRows, table.rows.size());
  return out;
}

std::string render_fact(const std::string& name, const nlohmann::ordered_json& value) {
  if (!value.is_number()) return text_of(value);
  const auto number = value.get<double>();
  if (is_fraction_name(name) && number >= 0 && number <= 1) return render_share(number);
  return render_number(number);
}

std::string render_findings(const NotesSummary& notes) {
  std::string out;
  if (!notes.facts.empty()) {
    TableSummary table{"Findings", {}, {}};
    for (const auto& [name, value] : notes.facts) table.rows.push_back({readable_name(name), render_fact(name, value)});
    out += render_table(table);
  }
  for (const TableSummary& table : notes.tables) out += render_table(table);
  return out;
}

std::string render_samples(const std::vector<SampleSummary>& samples) {
  if (samples.empty()) return "";
  std::string out = "<h3>Samples</h3>";
  for (size_t i = 0; i < samples.size() && i < kMaxSamples; ++i) out += render_cards(samples[i]);
  if (samples.size() > kMaxSamples)
    out += fmt::format("<p class=\"quiet\">The first {} of {} samples.</p>", kMaxSamples, samples.size());
  return out;
}

std::string render_checks(const std::vector<CheckSummary>& checks) {
  if (checks.empty()) return "";
  std::string out = "<h3>Checks before the first step</h3><div class=\"scroll\"><table class=\"wide\">";
  for (const CheckSummary& check : checks) {
    const char* word = check.has_passed ? "passed" : "failed";
    out += fmt::format("<tr><td>{}</td><td class=\"{}\">{}</td><td class=\"places\">{}</td></tr>",
                       escape_html(check.name, 200), word, word, escape_html(check.detail, kMaxCellBytes));
  }
  return out + "</table></div>\n";
}

std::string render_datasets(const std::vector<DatasetSummary>& datasets) {
  if (datasets.empty()) return "";
  std::string out = "<h3>Data</h3>", plots;
  for (const DatasetSummary& dataset : datasets) {
    out += fmt::format("<p><b>{}.</b> {}</p>", escape_html(dataset.name, 80), escape_html(describe_dataset(dataset)));
    out += render_tallies(dataset.tallies) + render_other_numbers(dataset);
    for (const auto& [name, counts] : dataset.length_histograms) plots += render_histogram(dataset.name, name, counts);
  }
  return out + (plots.empty() ? "" : "<div class=\"plots\">" + plots + "</div>\n");
}

}  // namespace plumb
