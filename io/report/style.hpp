// The style sheet of report.html: system fonts, one column of at most 1080 pixels, light or dark by the reader's
// preference.
#pragma once

#include <string_view>

namespace plumb {

inline constexpr std::string_view kReportStyle = R"css(
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1c1d20; --quiet: #62656d; --line: #e2e2dd; --panel: #f5f5f1;
  --good: #1a7047; --bad: #b3261e; --busy: #8a5a00;
  --s0: #2456c7; --s1: #c0500f; --s2: #117a65; --s3: #7a3fb0; --s4: #8a6d00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15161a; --ink: #e7e7e3; --quiet: #9a9da6; --line: #2e3037; --panel: #1d1f24;
    --good: #6fcf97; --bad: #ff8a80; --busy: #e8b95c;
    --s0: #82aaff; --s1: #f5a262; --s2: #5fd0b4; --s3: #c49bf0; --s4: #dfc25a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1080px; margin: 0 auto; padding: 56px 28px 96px; }
h1, h2, h3 { line-height: 1.2; font-weight: 600; overflow-wrap: anywhere; }
h1 { font-size: 2.25rem; letter-spacing: -0.02em; margin: 0.2rem 0 0.6rem; }
h2 { font-size: 1.5rem; letter-spacing: -0.01em; margin: 0; }
h3 { font-size: 1rem; margin: 2.6rem 0 0.7rem; }
section > h3:first-child { margin-top: 0; font-size: 1.5rem; }
p { margin: 0.4rem 0; max-width: 46rem; overflow-wrap: anywhere; }
a { color: inherit; text-decoration-color: var(--quiet); text-underline-offset: 3px; }
small, .quiet { color: var(--quiet); }
section { margin-top: 4rem; padding-top: 2rem; border-top: 1px solid var(--line); }
.kicker { color: var(--quiet); font-size: 0.875rem; margin: 0; }
.done, .passed { color: var(--good); } .failed { color: var(--bad); } .running, .unfinished { color: var(--busy); }
.pending { color: var(--quiet); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1.6rem 2rem; margin: 2.4rem 0 0; }
.figures div { border-top: 2px solid var(--ink); padding-top: 0.5rem; min-width: 0; }
.figures dt { font-size: 0.875rem; color: var(--quiet); }
.figures dd { margin: 0; font-size: 1.9rem; line-height: 1.25; letter-spacing: -0.02em; overflow-wrap: anywhere; }
.figures dd small { display: block; font-size: 0.8125rem; letter-spacing: 0; line-height: 1.4; }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 2rem 2.5rem; margin-top: 1.6rem; }
.plots.small { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 1.6rem 2rem; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.6rem 2.5rem; margin-top: 1.2rem; }
.pair > div { display: flex; flex-direction: column; } .pair .plot { flex: 0 0 auto; }
.plot { margin: 0; min-width: 0; display: flex; flex-direction: column; }
.plot figcaption { font-weight: 600; font-size: 0.9375rem; }
.plot figcaption small { font-weight: 400; margin-left: 0.3em; }
.plot svg { width: 100%; height: auto; display: block; margin-top: auto; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0.1rem 0 0.3rem; padding: 0; font-size: 0.8125rem; color: var(--quiet); }
.legend i { display: inline-block; width: 14px; height: 0; border-top: 2px solid; vertical-align: middle; margin-right: 6px; }
.word { white-space: nowrap; }
.legend i.dot { width: 7px; height: 7px; border: 0; border-radius: 50%; background: currentColor; }
.legend i.dashed { border-top: 1px dashed var(--quiet); }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); } .s3 { color: var(--s3); } .s4 { color: var(--s4); }
svg text { font-size: 12px; fill: var(--quiet); }
svg text.y, svg text.to { text-anchor: end; } svg text.x { text-anchor: middle; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--quiet); stroke-width: 0.75; }
svg .line { fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linejoin: round; }
svg .raw { stroke-width: 1; opacity: 0.28; }
svg .dot { fill: currentColor; stroke: var(--paper); stroke-width: 1; }
svg .reference { stroke: var(--quiet); stroke-dasharray: 4 4; fill: none; }
svg .bar { fill: var(--s0); opacity: 0.85; }
svg .reading rect { fill: transparent; }
svg .reading g { display: none; pointer-events: none; } svg .reading:hover g { display: inline; }
svg .reading path { stroke: var(--quiet); stroke-width: 0.75; }
svg .reading text { fill: var(--ink); stroke: var(--paper); stroke-width: 4px; paint-order: stroke; }
.scroll { overflow-x: auto; margin-top: 0.5rem; }
.scroll + p { margin-top: 1.4rem; }
table { border-collapse: collapse; min-width: min(100%, 26rem); font-size: 0.9375rem; }
table.wide, .pair table { width: 100%; min-width: 0; }
th, td { text-align: left; padding: 0.4rem 1.2rem 0.4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 400; color: var(--quiet); font-size: 0.8125rem; white-space: nowrap; }
td { overflow-wrap: anywhere; min-width: 4.5rem; }
td.number, th.number { text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td.places { font-size: 0.8125rem; color: var(--quiet); }
.sample { background: var(--panel); border-radius: 6px; padding: 1.1rem 1.3rem 1.2rem; margin-top: 1rem; }
.sample .columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 190px), 1fr)); gap: 1rem 2rem; margin-top: 0.9rem; }
.sample h4 { margin: 0; font-size: 0.8125rem; font-weight: 400; color: var(--quiet); }
.sample .text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; max-height: 22rem; overflow-y: auto; }
.sample .prompt { font-weight: 600; }
ul.plain { padding-left: 1.1rem; margin: 0.6rem 0; } ul.plain li { overflow-wrap: anywhere; margin: 0.2rem 0; }
details { margin-top: 1.2rem; } summary { cursor: pointer; color: var(--quiet); }
footer { margin-top: 4rem; font-size: 0.8125rem; color: var(--quiet); overflow-wrap: anywhere; }
@media (max-width: 820px) { .plots.small { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 640px) {
  main { padding: 32px 18px 64px; }
  h1 { font-size: 1.75rem; }
  .plots, .plots.small, .pair { grid-template-columns: minmax(0, 1fr); }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.2rem; }
  .figures dd { font-size: 1.5rem; }
  .plots:not(.small) svg text, .pair svg text { font-size: 14.5px; }
  th, td { padding-right: 0.8rem; }
}
@media print { .sample .text { max-height: none; } section { break-inside: auto; } .plot, .sample { break-inside: avoid; } }
)css";

}  // namespace plumb
