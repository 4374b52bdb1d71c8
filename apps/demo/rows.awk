# Writes the data of the demonstration: made-up words, and a system message that asks to change them.
#   train.csv, heldout.csv               instructions; no word of heldout.csv is in train.csv
#   pairs.jsonl, heldout_pairs.jsonl     preferences between two answers
#   prompts.csv                          instructions whose answers only tell what is right
# In train.csv an answer ends with a full stop at random, with a probability for each skill. The preferences want the full
# stop, and upper case only where it was asked for; so do the answers of prompts.csv and heldout.csv.
#
#   awk -v seed=1 -v num_train=34000 -v num_heldout=300 -v num_pairs=3000 -v num_prompts=1000 -v directory=demo \
#     -f rows.awk

# A random integer in [0, n), by the generator of Park and Miller, since rand() differs between versions of awk.
function random(n) {
  state = state * 16807 % 2147483647
  return int(state / 2147483647 * n)
}

function new_word(    remaining, word) {
  do {
    word = ""
    for (remaining = 3 + random(2); remaining > 0; --remaining) word = word substr(alphabet, 1 + random(length(alphabet)), 1)
  } while (word in seen)
  seen[word] = 1
  return word
}

function reversed(word,    i, result) {
  for (i = length(word); i > 0; --i) result = result substr(word, i, 1)
  return result
}

function answer(skill, word) { return skill == 0 ? reversed(word) : skill == 1 ? word word : toupper(word) }

# Swaps upper and lower case.
function miscased(text) { return text == toupper(text) ? tolower(text) : toupper(text) }

function message(role, text) { return "{\"role\":\"" role "\",\"content\":\"" text "\"}" }

function write_instruction(file, has_wanted_style,    skill, word, stop) {
  word = new_word()
  skill = random(3)
  stop = has_wanted_style || random(100) < stop_percent[skill] ? "." : ""
  print systems[skill] "," word "," answer(skill, word) stop > file
}

function write_pair(file,    skill, word, chosen, rejected) {
  word = new_word()
  skill = random(3)
  chosen = answer(skill, word) "."
  rejected = random(2) ? answer(skill, word) : miscased(answer(skill, word)) "."
  print "{\"prompt\":[" message("system", systems[skill]) "," message("user", word) "]," \
    "\"chosen\":[" message("assistant", chosen) "],\"rejected\":[" message("assistant", rejected) "]}" > file
}

BEGIN {
  state = seed + 1
  alphabet = "abcdefghijklmnop"
  split("30 30 70", percents, " ")
  split("Reverse the word./Say it twice./Say it louder.", names, "/")
  for (i = 0; i < 3; ++i) {
    systems[i] = names[i + 1]
    stop_percent[i] = percents[i + 1]
  }
  heldout = directory "/heldout.csv"
  train = directory "/train.csv"
  prompts = directory "/prompts.csv"
  print "system,question,answer" > prompts
  print "system,question,answer" > heldout
  print "system,question,answer" > train
  for (i = 0; i < num_heldout; ++i) write_instruction(heldout, 1)
  for (i = 0; i < num_heldout; ++i) write_pair(directory "/heldout_pairs.jsonl")
  for (i = 0; i < num_prompts; ++i) write_instruction(prompts, 1)
  for (i = 0; i < num_pairs; ++i) write_pair(directory "/pairs.jsonl")
  for (i = 0; i < num_train; ++i) write_instruction(train, 0)
}
