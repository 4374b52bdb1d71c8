// The section of report.html about one stage: its curves, its memory and speed compared with the plan, its data, checks
// and findings.
#pragma once

#include <string>
#include <vector>

#include "io/report/parts.hpp"
#include "io/report/run_summary.hpp"

namespace plumb {

/// The title of a stage: "Supervised fine-tuning" for "sft"; an unknown name is unchanged.
std::string stage_title(const std::string& stage_name);

/// The headline results, as far as they exist.
std::vector<KeyFigure> key_figures(const StageSummary& stage);

/// "step 120 of 400, about 2 min 10 s left", or "400 steps, 3 epochs, 1.2 M tokens, 3 min 20 s".
std::string describe_progress(const StageSummary& stage);

/// A <section> with this id.
std::string render_stage(const StageSummary& stage, const std::string& id);

}  // namespace plumb
