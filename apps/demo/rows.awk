# Writes train.csv and heldout.csv: made-up words, and what a system message asks to do with them. No question of
# heldout.csv, a message with a word, is in train.csv.
#
#   awk -v seed=1 -v num_train=6000 -v num_heldout=240 -v directory=demo/data -f rows.awk

# In [0, n): the generator of Park and Miller, as the rand() of awks differs.
function random(n) {
  state = state * 16807 % 2147483647
  return int(state / 2147483647 * n)
}

function new_word(    length_, word) {
  for (length_ = 3 + random(3); length_ > 0; --length_) word = word substr("abcdefghijklmnopqrstuvwxyz", 1 + random(26), 1)
  return word
}

function reversed(word,    i, result) {
  for (i = length(word); i > 0; --i) result = result substr(word, i, 1)
  return result
}

function sorted(word,    i, c, result) {
  for (i = 1; i <= 26; ++i) {
    c = substr("abcdefghijklmnopqrstuvwxyz", i, 1)
    result = result substr("cccccc", 1, 0)
    for (k = 1; k <= length(word); ++k) if (substr(word, k, 1) == c) result = result c
  }
  return result
}

function write_row(file,    skill, word) {
  do {
    skill = random(3)
    word = new_word()
  } while ((skill, word) in seen)
  seen[skill, word] = 1
  if (skill == 0) printf "\"Reverse the word.\",%s,%s\n", word, reversed(word) > file
  if (skill == 1) printf "\"Sort its letters.\",%s,%s\n", word, sorted(word) > file
  if (skill == 2) printf "\"Louder, please!\",%s,%s\n", word, toupper(word) > file
}

BEGIN {
  state = seed + 1
  heldout = directory "/heldout.csv"
  train = directory "/train.csv"
  print "system,question,answer" > heldout
  print "system,question,answer" > train
  for (i = 0; i < num_heldout; ++i) write_row(heldout)
  for (i = 0; i < num_train; ++i) write_row(train)
}
