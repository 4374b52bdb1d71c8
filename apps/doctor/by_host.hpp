// The ranks of each host, and text about ranks that differ, for the checks.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "apps/doctor/checks.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

/// One host, as Open MPI distinguishes them: by name.
struct HostRanks {
  std::string name;
  std::vector<const RankFacts*> ranks;
  const RankFacts& first() const { return *ranks.front(); }
  int64_t num_ranks() const { return std::ssize(ranks); }
};

/// In the order of their first ranks.
inline std::vector<HostRanks> by_host(const Facts& facts) {
  std::vector<HostRanks> hosts;
  for (const RankFacts& rank : facts) {
    auto host = std::find_if(hosts.begin(), hosts.end(), [&](const HostRanks& h) { return h.name == rank.host; });
    if (host == hosts.end()) host = hosts.insert(hosts.end(), {rank.host, {}});
    host->ranks.push_back(&rank);
  }
  return hosts;
}

inline std::string plural(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

inline std::string name_of_rank(const RankFacts& rank) { return fmt::format("rank {} on {}", rank.rank, rank.host); }

/// "" where all ranks have the same text; else "2.15.0 on 3 ranks, 2.14.0 on rank 3 on n2". value: of a RankFacts.
template <class Value>
std::string describe_differences(const Facts& facts, const Value& value) {
  std::map<std::string, std::vector<const RankFacts*>> ranks_of;
  for (const RankFacts& rank : facts) ranks_of[value(rank)].push_back(&rank);
  if (ranks_of.size() < 2) return "";
  std::vector<std::string> parts;
  for (const auto& [text, ranks] : ranks_of)
    parts.push_back(fmt::format("{} on {}", text.empty() ? "none" : text,
                                ranks.size() == 1
                                    ? name_of_rank(*ranks[0])
                                    : fmt::format("{} ranks, the first {}", ranks.size(), name_of_rank(*ranks[0]))));
  return list_some(parts);
}

inline Finding ok(std::string check, std::string text) { return {std::move(check), true, std::move(text)}; }
inline Finding problem(std::string check, std::string text, std::string cure) {
  return {std::move(check), false, std::move(text), std::move(cure)};
}

/// The first problem that `check` finds at a host: it returns a Finding. Else `healthy`.
template <class Check>
Finding first_problem(const Facts& facts, const Check& check, Finding healthy) {
  for (const HostRanks& host : by_host(facts))
    if (Finding found = check(host); !found.is_ok) return found;
  return healthy;
}

}  // namespace plumb
