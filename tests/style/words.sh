#!/usr/bin/env bash
# words.sh ROOT: fails, with file:line and the word to use instead, on every line of comment, code, shell or Markdown in
# ROOT that uses a phrase of the table below: British spelling, or a private phrase where the field has its own word. A
# search for "resume" or "fsync" must find every place that deals with it.
set -euo pipefail
root=${1:?usage: words.sh ROOT}
cd "$root"

# Everything is checked except recorded results. Folders that are not reworded yet are excluded too, until they are.
checked=(*.md CMakeLists.txt dev .ci lib partition io apps tests slurm benchmarks findings)
excluded=(benchmarks/results)

# PATTERN (extended regular expression, case is ignored unless it begins with ^) => what to write instead
words=$(sed -E '/^ *(#|$)/d' <<'TABLE'
\b(go|goes|going|went) on\b            => resume, continue
(\b|_)go(es)?_on(_|\b)                  => resume, continue
\banew\b                               => again, from scratch
\bon end\b|_on_end\b                   => in a row, consecutive
\b(is|are|was|were|be|it|them|all) on the device\b => fsynced, durable
\bfor people\b                         => human-readable
\blaid (end to end|out end)\b          => concatenated
\bof no meaning\b                      => padding, unused
\bcarried through\b                    => completed
\bpassed over\b                        => skipped
\bwhoever\b                            => the reader, the caller
\bwhat [^.]* makes? of\b               => name the thing itself
\b(on purpose|on_purpose)\b            => deliberately; inject a fault
\bspoil(s|ed|t|ing)?(_|\b)             => corrupt, overwrite
\b(is|are|was|were|be) said\b          => is logged, is reported
\bsays? so\b                           => logs it, reports it
\b(is|are|was|were) told apart\b       => is distinguished
\bstands? (there|in|at|on|before|behind|beside|above|below|between|alone|where|first|last)\b => is in, is at
\blies? (there|in|at|on|before|behind|beside|above|below|between|where)\b => is in, is at
\bright behind\b|\bbehind (it|them|which|the last)\b => after
\b(gives?|gave) (it|them) (its|their) names?\b => renames into place, publishes
\blaboratory\b                         => fault harness
\bclumsy\b                             => say what is slow or hard
\bsurveys?\b|take_surveys              => global statistics
^ *//+ (Of|What|Those|That which)\b    => begin with the subject of a sentence
\b[a-z_]*(normal|initial|quant|serial|optim|organ|recogn|special|summar|synchron|token|vector|parallel|random|minim|maxim|util|general|final|material|character|local|central|real|prior|memor|author|custom|emphas|capital|equal|stabil|visual|canonical|standard|categor)is(e[drs]?|ing|ation|ations|er|ers)\b => American spelling: -ize
\b[a-z_]*(colou|behaviou|favou|neighbou|honou|labou|flavou|endeavou)r => American spelling: -or
\b(centre[ds]?|metres?|fibres?|analys(e[ds]?|ing)|artefacts?|catalogues?|licences?|defence|grey|judgement|whilst|amongst|(cancel|label|model|signal|travel|level)l(ed|ing|er)|learnt|spelt|programmes?)\b => American spelling
TABLE
)

# FILE: PHRASE, both extended regular expressions, for lines that may stay as they are, each with its reason.
allowed=$(sed -E '/^ *(#|$)/d' <<'ALLOWED'
# the table itself and its test name what they forbid
tests/style/words(_test)?\.sh:.*
# Slurm spells the state of a job so
tests/slurm/.*\.sh:CANCELLED
# a key of checkpoints of earlier versions
apps/run/state\.cpp:num_skipped_on_end
ALLOWED
)

prune=()
for path in "${excluded[@]}"; do prune+=(-o -path "$path"); done
mapfile -d '' -t files < <(for path in "${checked[@]}"; do [[ ! -e $path ]] || printf '%s\0' "$path"; done |
  xargs -0 -r -I{} find {} \( -false "${prune[@]}" \) -prune -o -type f \( -name '*.[ch]pp' -o -name '*.cuh' \
    -o -name '*.cu' -o -name '*.md' -o -name '*.sh' -o -name '*.sbatch' -o -name '*.cmake' -o -name CMakeLists.txt \
    -o -name '*.ini' -o -name '*.py' -o -path dev -o -path .ci/run \) -print0)
if [[ ${#files[@]} -eq 0 ]]; then
  echo "words.sh: no sources under $root" >&2
  exit 2
fi

# Two searches for all phrases; only where one hits, one search for each phrase, for the advice.
exceptions=$(sed -E 's/:/:[0-9]+:.*/; s/^/^/' <<<"$allowed")
patterns=$(sed -E 's/ +=> .*//' <<<"$words")
mapfile -t suspects < <(grep -liE -f <(grep -v '^^' <<<"$patterns") -- "${files[@]}" || true
  grep -lE -f <(grep '^^' <<<"$patterns") -- "${files[@]}" || true)
[[ ${#suspects[@]} -gt 0 ]] || exit 0
mapfile -t suspects < <(printf '%s\n' "${suspects[@]}" | sort -u)
found=$(while IFS= read -r word; do
  pattern=$(sed -E 's/ +=> .*//' <<<"$word")
  case_flag=-i
  [[ $pattern != ^* ]] || case_flag=--no-ignore-case
  { grep -HnE "$case_flag" -- "$pattern" "${suspects[@]}" || true; } |
    { grep -viE -f <(echo "$exceptions") || true; } | sed -E "s|\$|\n    write instead: ${word##*=> }|"
done <<<"$words")
[[ -z $found ]] || { echo "$found" && exit 1; }
