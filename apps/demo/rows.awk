# Writes train.csv and heldout.csv: made-up words, and what a system message asks to do with them. No word of heldout.csv
# is in train.csv.
#
#   awk -v seed=1 -v num_train=20000 -v num_heldout=300 -v directory=demo -f rows.awk

# In [0, n): the generator of Park and Miller, as the rand() of awks differs.
function random(n) {
  state = state * 16807 % 2147483647
  return int(state / 2147483647 * n)
}

function new_word(    remaining, word) {
  for (remaining = 3 + random(2); remaining > 0; --remaining) word = word substr(alphabet, 1 + random(26), 1)
  return word
}

function reversed(word,    i, result) {
  for (i = length(word); i > 0; --i) result = result substr(word, i, 1)
  return result
}

function sorted(word,    i, k, letter, result) {
  for (i = 1; i <= 26; ++i) {
    letter = substr(alphabet, i, 1)
    for (k = 1; k <= length(word); ++k) if (substr(word, k, 1) == letter) result = result letter
  }
  return result
}

function write_row(file,    skill, word) {
  do word = new_word(); while (word in seen)
  seen[word] = 1
  skill = random(3)
  if (skill == 0) print "Reverse the word.", word, reversed(word) > file
  if (skill == 1) print "Sort its letters.", word, sorted(word) > file
  if (skill == 2) print "Say it louder.", word, toupper(word) > file
}

BEGIN {
  OFS = ","
  state = seed + 1
  alphabet = "abcdefghijklmnopqrstuvwxyz"
  heldout = directory "/heldout.csv"
  train = directory "/train.csv"
  print "system,question,answer" > heldout
  print "system,question,answer" > train
  for (i = 0; i < num_heldout; ++i) write_row(heldout)
  for (i = 0; i < num_train; ++i) write_row(train)
}
