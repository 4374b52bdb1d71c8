#include "io/dataset/batch_stream.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>

#include "lib/base/check.hpp"
#include "tests/io/dataset/token_dataset.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

SamplerOptions options_of(int64_t rows_per_micro_batch, int64_t accumulation_steps, bool shuffle = true) {
  SamplerOptions options;
  options.seed = 7;
  options.shuffle = shuffle;
  options.rows_per_micro_batch = rows_per_micro_batch;
  options.accumulation_steps = accumulation_steps;
  return options;
}

/// The rows of each micro-batch of each step, put together from all ranks.
using Steps = std::vector<std::vector<std::vector<int64_t>>>;

Steps read_steps(const Dataset& dataset, int num_ranks, int64_t micro_batches_per_step, int64_t begin, int64_t end) {
  Steps steps(end - begin, std::vector<std::vector<int64_t>>(micro_batches_per_step));
  for (int rank = 0; rank < num_ranks; ++rank) {
    BatchStream stream(dataset, options_of(2, micro_batches_per_step / num_ranks), rank, num_ranks, begin);
    for (auto& step : steps) {
      const std::vector<MicroBatch> batches = stream.next();
      EXPECT_EQ(std::ssize(batches), micro_batches_per_step / num_ranks);
      for (size_t a = 0; a < batches.size(); ++a) {
        step[a * static_cast<size_t>(num_ranks) + static_cast<size_t>(rank)] = batches[a].row_ids;
      }
    }
  }
  return steps;
}

TEST(MicroBatch, PairsAreTwoDocumentsEach) {
  const TemporaryDirectory directory;
  write_made_pair_dataset(directory.path(), {5, 5}, true);
  const Dataset dataset(directory.path());
  TokenRows expected;
  for (const int64_t i : {7, 1, 4}) add_made_pair(expected, i, true);
  const MicroBatch batch = make_micro_batch(dataset, {7, 1, 4});
  ASSERT_EQ(batch.num_documents(), expected.num_documents());
  int64_t num_shared = 0;
  for (int64_t document = 0; document < batch.num_documents(); ++document) {
    const auto index = static_cast<size_t>(document);
    const int64_t prompt = expected.prompt_lengths[index / 2], begin = expected.offsets[index];
    EXPECT_EQ(batch.prefix_of(document), document % 2 == 0 ? 0 : prompt) << "the prompt is laid down once";
    num_shared += batch.prefix_of(document);
    ASSERT_EQ(batch.document_tokens(document), expected.offsets[index + 1] - begin);
    for (int64_t i = 0; i < batch.document_tokens(document); ++i) {
      const auto token = static_cast<size_t>(batch.token_at(document, i)), source = static_cast<size_t>(begin + i);
      EXPECT_EQ(batch.token_ids[token], expected.tokens[source]);
      EXPECT_EQ(batch.loss_mask[token], expected.loss_mask[source]);
    }
  }
  EXPECT_GT(num_shared, 0);
  EXPECT_EQ(batch.num_document_tokens(), expected.num_tokens());
  EXPECT_EQ(batch.num_tokens(), expected.num_tokens() - num_shared);
  EXPECT_EQ(batch.num_pairs(), 3);
  EXPECT_EQ(batch.row_ids, (std::vector<int64_t>{14, 14, 2, 2, 8, 8}));
  EXPECT_EQ(batch.margins, (std::vector<double>{1.75, 0.25, 1}));
  EXPECT_TRUE(batch.reference_logps.empty());
  EXPECT_EQ(make_micro_batch(dataset, {}).num_pairs(), 0);
}

TEST(BatchStream, StepsDoNotDependOnTheNumberOfRanks) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {40, 0, 30, 1});
  const Dataset dataset(directory.path());
  const Steps expected = read_steps(dataset, 1, 12, 0, 7);  // two epochs of three steps, the last short, and one
  EXPECT_NE(expected[0], expected[3]);                      // epochs differ
  for (const int num_ranks : {2, 3, 4, 6, 12})
    EXPECT_EQ(read_steps(dataset, num_ranks, 12, 0, 7), expected) << num_ranks;
  // a restart in the middle, on another number of ranks
  EXPECT_EQ(read_steps(dataset, 3, 12, 4, 7), Steps(expected.begin() + 4, expected.end()));
}

TEST(BatchStream, AnEpochHasEveryRowOnce) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {40, 31});
  const Dataset dataset(directory.path());
  std::vector<int64_t> rows;
  for (const auto& step : read_steps(dataset, 4, 12, 0, 3)) {
    for (const auto& batch : step)
      std::copy_if(batch.begin(), batch.end(), std::back_inserter(rows), [](int64_t id) { return id >= 0; });
  }
  std::sort(rows.begin(), rows.end());
  ASSERT_EQ(rows.size(), 71u);
  for (int64_t i = 0; i < 71; ++i) EXPECT_EQ(rows[i], 2 * i);
}

TEST(BatchStream, MicroBatchesHoldWholeRows) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {5});
  const Dataset dataset(directory.path());
  BatchStream stream(dataset, options_of(3, 1, false), 0, 1);
  const MicroBatch batch = stream.next().front();
  ASSERT_EQ(batch.num_documents(), 3);
  EXPECT_EQ(batch.row_ids, (std::vector<int64_t>{0, 2, 4}));
  EXPECT_EQ(batch.document_begin.back(), batch.num_tokens());
  EXPECT_EQ(batch.loss_mask.size(), batch.token_ids.size());
  for (size_t i = 0; i < 3; ++i) {
    const auto begin = batch.document_begin[i], end = batch.document_begin[i + 1];
    const MadeRow row = made_row(static_cast<int64_t>(i));
    EXPECT_EQ(std::vector<int64_t>(batch.token_ids.begin() + begin, batch.token_ids.begin() + end),
              std::vector<int64_t>(row.tokens.begin(), row.tokens.end()));
    EXPECT_EQ(std::vector<uint8_t>(batch.loss_mask.begin() + begin, batch.loss_mask.begin() + end), row.loss_mask);
  }
}

TEST(BatchStream, MicroBatchesKnowTheirNumbers) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {5});
  const Dataset dataset(directory.path());
  BatchStream stream(dataset, options_of(1, 2, false), 1, 3);  // the second of rank 1 is one without rows
  const std::vector<MicroBatch> step = stream.next();
  ASSERT_EQ(step.size(), 2u);
  EXPECT_EQ(step[0].number, 1);
  EXPECT_EQ(step[1].number, 4);
  const MicroBatch without_rows = stream.next().back();
  EXPECT_EQ(without_rows.number, 4);
}

/// The documents of one epoch by the source row, each with its mask behind its tokens.
std::map<int64_t, std::vector<int64_t>> documents_of_epoch(const Dataset& dataset) {
  std::map<int64_t, std::vector<int64_t>> documents;
  SamplerOptions options = options_of(3, 2);
  const int64_t num_steps = make_step_layout(options, dataset.num_rows(), 2).steps_per_epoch();
  for (int rank = 0; rank < 2; ++rank) {
    BatchStream stream(dataset, options, rank, 2, 0, num_steps);
    while (stream.has_next()) {
      for (const MicroBatch& batch : stream.next()) {
        if (batch.is_empty()) continue;
        EXPECT_EQ(std::ssize(batch.row_ids), batch.num_documents());
        for (size_t i = 0; i < batch.row_ids.size(); ++i) {
          EXPECT_FALSE(documents.contains(batch.row_ids[i])) << batch.row_ids[i];
          auto& document = documents[batch.row_ids[i]];
          const auto begin = batch.document_begin[i], end = batch.document_begin[i + 1];
          document.assign(batch.token_ids.begin() + begin, batch.token_ids.begin() + end);
          document.insert(document.end(), batch.loss_mask.begin() + begin, batch.loss_mask.begin() + end);
        }
      }
    }
  }
  return documents;
}

TEST(BatchStream, PackedRowsHoldTheSameDocuments) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {40, 0, 31});
  Dataset dataset(directory.path());
  const auto expected = documents_of_epoch(dataset);
  ASSERT_EQ(expected.size(), 71u);
  for (const int64_t capacity : {5, 16, 200}) {
    write_packing(dataset.directory(), dataset.index(), capacity, dataset.example_tokens(0, dataset.num_examples()));
    dataset.use_packing(capacity);
    EXPECT_EQ(documents_of_epoch(dataset), expected) << capacity;
  }
}

TEST(BatchStream, AMicroBatchWithoutRowsWeighsNothing) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {5});
  const Dataset dataset(directory.path());
  BatchStream stream(dataset, options_of(4, 1, false), 2, 3);
  const MicroBatch batch = stream.next().front();
  EXPECT_EQ(batch.token_ids, std::vector<int64_t>{0});
  EXPECT_EQ(batch.document_begin, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(batch.loss_mask, std::vector<uint8_t>{0});
  EXPECT_EQ(batch.row_ids, std::vector<int64_t>{-1});
}

TEST(BatchStream, AnEvaluationSetIsReadOnce) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {7});
  const Dataset dataset(directory.path());
  const SamplerOptions options = options_of(2, 1, false);
  const int64_t num_steps = make_step_layout(options, dataset.num_rows(), 1).steps_per_epoch();
  BatchStream stream(dataset, options, 0, 1, 0, num_steps);
  std::vector<int64_t> rows;
  while (stream.has_next()) {
    for (const MicroBatch& batch : stream.next()) rows.insert(rows.end(), batch.row_ids.begin(), batch.row_ids.end());
  }
  EXPECT_EQ(rows, (std::vector<int64_t>{0, 2, 4, 6, 8, 10, 12}));
  EXPECT_THROW(stream.next(), std::logic_error);
}

TEST(BatchStream, AnErrorOfReadingComesOutOfNextAgainAndAgain) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {10, 10});
  const Dataset dataset(directory.path());
  // truncated after the dataset was checked
  directory.write("shard-1.h5", directory.read("shard-1.h5").substr(0, 3000));
  BatchStream stream(dataset, options_of(1, 1, false), 0, 1);
  for (int step = 0; step < 10; ++step) EXPECT_EQ(stream.next().front().row_ids.front(), 2 * step);
  for (int i = 0; i < 2; ++i) {
    EXPECT_NE(message_of<DataError>([&] { stream.next(); }).find("shard-1.h5"), std::string::npos);
  }
}

TEST(BatchStream, EndsWhereverItsThreadIs) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {2000});
  const Dataset dataset(directory.path());
  // one step of many rows, so that the thread reads; and steps of few, so that it waits
  for (const int64_t rows : {2000, 1}) {
    for (int i = 0; i < 20; ++i) {
      BatchStream stream(dataset, options_of(rows, 1), 0, 1);
      if (i % 2 == 0) stream.next();
    }
  }
}

TEST(BatchStream, DropLastThatLeavesNoStepIsAUsageError) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {7});
  const Dataset dataset(directory.path());
  SamplerOptions options = options_of(2, 2);
  options.drop_last = true;
  EXPECT_THROW(BatchStream(dataset, options, 0, 2), UsageError);
}

int64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6)) * 1024;
  }
  return -1;
}

TEST(BatchStream, MemoryDoesNotGrowWithTheCorpus) {
  SKIP_UNDER_SANITIZER();
  constexpr int64_t kRowTokens = 1000, kNumRows = 8000;  // 40 MB with the mask
  const TemporaryDirectory directory;
  const std::vector<int32_t> tokens(kRowTokens, 5);
  const std::vector<uint8_t> loss_mask(kRowTokens, 1);
  int64_t before = resident_bytes(), most = 0;
  ASSERT_GT(before, 0);
  TokenShardWriter writer(directory / "shard.h5");
  for (int64_t i = 0; i < kNumRows; ++i) {
    writer.append(tokens, loss_mask, i);
    if (i % 100 == 0) most = std::max(most, resident_bytes());
  }
  writer.finish();
  DatasetIndex index;
  index.kind = kSftKind;
  index.shards.push_back({"shard.h5", kNumRows, kNumRows * kRowTokens,
                          File::open_for_reading(directory / "shard.h5").size_bytes(), std::string(64, '0')});
  index.statistics.num_rows_kept = kNumRows;
  index.statistics.num_tokens = kNumRows * kRowTokens;
  write_dataset_index(directory.path(), index);
  EXPECT_GT(index.shards[0].num_bytes, 40'000'000);

  const Dataset dataset(directory.path());
  for (const bool shuffle : {false, true}) {
    BatchStream stream(dataset, options_of(1, 2, shuffle), 0, 1, 0, kNumRows / 2);
    for (int64_t step = 0; stream.has_next(); ++step) {
      stream.next();
      if (step % 100 == 0) most = std::max(most, resident_bytes());
    }
  }
  // buffers of the library and of the stream; a fifth of the shard
  EXPECT_LT(most - before, 8'000'000);
}

}  // namespace
}  // namespace plumb
