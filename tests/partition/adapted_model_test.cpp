// Adapters on a frozen base: N ranks, on one node or several, give the same bits as one; the losses equal those of the
// merged model; and the base is not trained.
#include "partition/adapted_model.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/random.hpp"
#include "lib/objective/sft.hpp"
#include "partition/sharded_model.hpp"
#include "tests/support/decoded_logps.hpp"
#include "tests/support/random_batch.hpp"
#include "tests/support/rank_work.hpp"
#include "tests/support/tiny_adapter.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

using enum ParameterKind;

using Case = test::AdapterCase;
using test::all_linear;
using test::base_value;
using test::fill_adapter;
using test::frozen_source;
using test::is_matrix;
using test::nothing_quantized;
using test::Outcome;
using test::quantized_matrices;
using test::values_of;

/// Beside the blocks' adapters: one of the embedding, and rows or an adapter of the head. Where they are one matrix,
/// the embedding's is beside both uses.
Adapter with_outer(std::vector<LoraTarget> targets, std::vector<AdapterRows> rows, double dropout = 0) {
  Adapter adapter = all_linear(false, dropout);
  adapter.outer_targets = std::move(targets);
  adapter.rows = std::move(rows);
  return adapter;
}
Adapter low_rank_of_both(double dropout = 0) {
  return with_outer({{kEmbedding, -1, 3, 0.5}, {kHead, -1, 5, 1.5}}, {}, dropout);
}
Adapter low_rank_of_tied() { return with_outer({{kEmbedding, -1, 3, 0.5}}, {}); }
Adapter rows_of_both() { return with_outer({}, {{kEmbedding, {5, 96, 0, 31}}, {kHead, {31, 7}}}); }
Adapter rows_of_tied() { return with_outer({}, {{kEmbedding, {5, 96, 0, 31}}}); }
Adapter with_experts() {
  Adapter adapter;
  for (const ParameterKind kind : {kQ, kO, kExpertsGateUp, kExpertsDown})
    adapter.targets.push_back({kind, 1, kind == kQ || kind == kO ? 3 : 8, 1.5});
  return adapter;
}
Adapter upper_layer_only() { return {{{kQ, 1, 3, 2.0}, {kDown, 1, 4, 1.0}}, {}, false, 0}; }

/// Decodes after each step, too.
Outcome train(const Communicator& comm, const Case& given) {
  const double tolerance = given.dtype == at::kFloat ? 1e-4 : 0.1;
  return test::train_adapter(comm, given, {.measure = [&](TrainableModel& model) {
                               return test::decoded_logps(dynamic_cast<AdaptedModel&>(model), tolerance);
                             }});
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {{"lora", all_linear(false)},
                                        {"dora", all_linear(true)},
                                        {"dropout", all_linear(false, 0.2)},
                                        {"whole", all_linear(false, 0, {kEmbedding, kHead})},
                                        {"low_rank_outer", low_rank_of_both(0.2)},
                                        {"low_rank_tied", low_rank_of_tied(), at::kBFloat16, false, true, true},
                                        {"rows_tied", rows_of_tied(), at::kFloat, false, true, true},
                                        {"upper_layer", upper_layer_only()},
                                        {"bfloat16", all_linear(false), at::kBFloat16, false, false},
                                        {"nf4", all_linear(false), at::kFloat, true},
                                        {"nf4_bfloat16_dora", all_linear(true), at::kBFloat16, true},
                                        {"experts", with_experts(), at::kFloat, false, true, false, true},
                                        {"nf4_experts", with_experts(), at::kBFloat16, true, true, false, true}};
  return all;
}

class AdaptedModelBits : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_P(AdaptedModelBits, AreThoseOfOneRank) {
  static const std::vector<Outcome> references = test::divide_among_ranks<Outcome>(
      cases().size(), [](size_t i) { return train(Communicator(0, MPI_COMM_SELF), cases()[i]); });
  const int ranks = Communicator().size();
  for (const int ranks_per_node : {0, 1, 2}) {
    if (ranks_per_node > ranks) continue;
    const Communicator comm(ranks_per_node);
    const Outcome together = train(comm, cases()[GetParam()]);
    for (const std::vector<double>& losses : comm.all_gather(together.losses)) EXPECT_EQ(losses, together.losses);
    for (const std::vector<double>& norms : comm.all_gather(together.norms)) EXPECT_EQ(norms, together.norms);
    if (!test::is_mine(GetParam())) continue;
    const Outcome& alone = references[GetParam()];
    EXPECT_GT(alone.norms[0], 0);
    EXPECT_TRUE(std::isfinite(alone.losses.back()));
    EXPECT_NE(alone.losses.front(), alone.losses[3]);  // of the next step
    EXPECT_EQ(alone.losses, together.losses) << ranks_per_node;
    EXPECT_EQ(alone.norms, together.norms) << ranks_per_node;
    EXPECT_EQ(alone.parameters, together.parameters) << ranks_per_node;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AdaptedModelBits, testing::Range(size_t{0}, cases().size()),
                         [](const auto& given) { return std::string(cases()[given.param].name); });

/// The loss of one micro-batch, of this model on this rank alone, whose gradients are those of the loss.
double loss_of(TrainableModel& model, const MicroBatch& batch) {
  OutputConfig output = model.config().output();
  output.logits.scale = 0.5;
  SftObjective objective(output, TokenLoss::kNll);
  ObjectiveSums sums = objective.empty_sums();
  ForwardPass pass = model.forward(batch, objective.read_rows(batch), Pass::training(0));
  pass.backward(objective.apply(pass.hidden_TD(), batch, pass.head(), pass.head_gradients(), {.items = 10}, sums));
  return sums.sums[0].value();
}

/// The parts of the adapter for a parameter of the base, in a flat buffer of the unit: values or gradients.
struct Parts {
  const Parameter *a = nullptr, *b = nullptr, *rows = nullptr, *whole = nullptr;
  double scaling = 0;
  std::vector<int64_t> tokens;
};

Parts parts_of(const Adapter& adapter, const UnitLayout& unit, const Parameter& of) {
  Parts parts;
  for (const Parameter& p : unit.parameters) {
    if (p.kind != of.kind || p.layer != of.layer) continue;
    if (p.part == AdapterPart::kLoraA) parts.a = &p;
    if (p.part == AdapterPart::kLoraB) parts.b = &p;
    if (p.part == AdapterPart::kRows) parts.rows = &p;
    if (p.part == AdapterPart::kWhole) parts.whole = &p;
  }
  for (const auto* targets : {&adapter.targets, &adapter.outer_targets})
    for (const LoraTarget& target : *targets)
      if (target.kind == of.kind && target.layer == of.layer) parts.scaling = target.scaling;
  for (const AdapterRows& rows : adapter.rows)
    if (rows.kind == of.kind) parts.tokens = rows.tokens;
  return parts;
}

/// Calls use(row, column, element of A, element of B) for all products of which B A is a sum, for a matrix with
/// `columns` columns. The embedding is adapted as its transpose.
template <class Use>
void for_each_product(const Parts& parts, int64_t columns, bool is_embedding, Use use) {
  const int64_t rank = parts.a->shape[0], in = parts.a->shape[1];
  for (int64_t out = 0; out < parts.b->shape[0]; ++out)
    for (int64_t i = 0; i < in; ++i)
      for (int64_t r = 0; r < rank; ++r)
        use(is_embedding ? i * columns + out : out * columns + i, parts.a->offset + r * in + i,
            parts.b->offset + out * rank + r);
}

/// The values of the base with NF4's rounding and the adapter in them.
std::vector<float> merged_values(const Parameter& p, const Case& given, const UnitLayout& unit,
                                 const std::vector<float>& flat) {
  std::vector<float> values = values_of(p);
  if (given.is_quantized && is_matrix(p)) {
    const Nf4Layout layout = nf4_layout(p.num_elements(), true);
    std::vector<std::byte> bytes(layout.num_bytes);
    nf4_quantize(values, layout, bytes);
    nf4_dequantize({layout, bytes.data(), Dtype::kF32}, 0, values);
  }
  const Parts parts = parts_of(given.adapter, unit, p);
  if (parts.a)
    for_each_product(parts, p.shape[1], p.kind == kEmbedding, [&](int64_t i, int64_t a, int64_t b) {
      values[i] += static_cast<float>(parts.scaling) * flat[b] * flat[a];
    });
  for (size_t i = 0; i < parts.tokens.size(); ++i)
    for (int64_t d = 0; d < p.shape[1]; ++d)
      values[parts.tokens[i] * p.shape[1] + d] = flat[parts.rows->offset + static_cast<int64_t>(i) * p.shape[1] + d];
  return values;
}

/// By the chain rule, from the gradient of the merged matrix.
void add_expected_gradient(const Parameter& p, const Parts& parts, std::span<const float> of_matrix,
                           const std::vector<float>& flat, std::vector<double>& expected) {
  if (parts.a)
    for_each_product(parts, p.shape[1], p.kind == kEmbedding, [&](int64_t i, int64_t a, int64_t b) {
      expected[a] += parts.scaling * flat[b] * of_matrix[i];
      expected[b] += parts.scaling * flat[a] * of_matrix[i];
    });
  for (size_t i = 0; i < parts.tokens.size(); ++i)
    for (int64_t d = 0; d < p.shape[1]; ++d)
      expected[parts.rows->offset + static_cast<int64_t>(i) * p.shape[1] + d] =
          of_matrix[parts.tokens[i] * p.shape[1] + d];
  for (int64_t i = 0; parts.whole && i < p.num_elements(); ++i) expected[parts.whole->offset + i] = of_matrix[i];
}

TEST(AdaptedModel, HasLossAndGradientOfTheMergedModel) {
  const Communicator comm(0, MPI_COMM_SELF);
  const std::vector<Case> all = {{"lora", all_linear(false)},
                                 {"nf4", all_linear(false), at::kFloat, true},
                                 {"whole_tied", all_linear(false, 0, {kEmbedding}), at::kFloat, false, true, true},
                                 {"low_rank_outer", low_rank_of_both()},
                                 {"low_rank_tied", low_rank_of_tied(), at::kFloat, false, true, true},
                                 {"rows", rows_of_both()},
                                 {"rows_tied", rows_of_tied(), at::kFloat, false, true, true}};
  for (size_t c = 0; c < all.size(); ++c) {
    if (!test::is_mine(c)) continue;
    SCOPED_TRACE(all[c].name);
    ModelConfig config = test::tiny_config(all[c].is_tied);
    config.embedding_multiplier = 1.5;
    if (all[c].adapter.outer_targets.empty()) config.frozen_input_token = 31;  // B sees it, as in PEFT
    AdaptedModel model(
        config, all[c].adapter,
        frozen_units(config, all[c].adapter, 4, all[c].is_quantized ? quantized_matrices : nothing_quantized), comm, {},
        5);
    model.load_base(frozen_source());
    model.load_adapter(
        [&](ElementRange range, std::span<float> out) { fill_adapter(model.unit().unit(), range, out); });
    const UnitLayout& unit = model.unit().unit();
    std::vector<float> flat(unit.num_elements);
    fill_adapter(unit, {0, unit.num_elements}, flat);
    ShardedModel merged(config, comm, {});
    merged.load([&](int index, ElementRange range, std::span<float> out) {
      for (const Parameter& p : merged.units()[index].unit().parameters) {
        const std::vector<float> values = merged_values(p, all[c], unit, flat);
        for (int64_t i = 0; i < p.num_elements(); ++i) out[p.offset + i - range.begin] = values[i];
      }
    });
    MicroBatch batch = test::random_batch(0, 0, config.vocab_size);
    batch.token_ids[0] = batch.token_ids[4] = 31;
    batch.token_ids[2] = batch.token_ids[5] = batch.token_ids[7] = 5;
    const double expected_loss = loss_of(merged, batch);
    EXPECT_NEAR(loss_of(model, batch), expected_loss, 1e-5 * expected_loss);
    std::vector<double> expected(unit.num_elements);
    for (size_t index = 0; index < merged.units().size(); ++index)
      for (const Parameter& p : merged.units()[index].unit().parameters)
        add_expected_gradient(p, parts_of(all[c].adapter, unit, p),
                              merged.gradient_shard(static_cast<int>(index)).subspan(p.offset, p.num_elements()), flat,
                              expected);
    for (const Parameter& p : unit.parameters) {
      double difference = 0, size = 0;
      for (int64_t i = p.offset; i < p.offset + p.num_elements(); ++i) {
        difference = std::max(difference, std::abs(model.gradient_shard()[i] - expected[i]));
        size = std::max(size, std::abs(expected[i]));
      }
      EXPECT_LT(difference, 2e-5 * size + 1e-7) << static_cast<int>(p.kind) << " " << static_cast<int>(p.part);
    }
    test::decoded_logps(model, 1e-4);
  }
}

TEST(AdaptedModel, ExchangesAdaptersOnly) {
  const Communicator comm;
  const Case given{"lora", upper_layer_only()};
  const ModelConfig config = test::tiny_config(false);
  AdaptedModel model(config, given.adapter, frozen_units(config, given.adapter, 4, nothing_quantized), comm, {}, 5);
  model.load_base(frozen_source());
  comm.barrier();
  SftObjective objective(config.output(), TokenLoss::kNll);
  ObjectiveSums sums = objective.empty_sums();
  const MicroBatch batch = test::random_batch(0, static_cast<uint64_t>(comm.rank()), config.vocab_size);
  std::vector<CollectiveRecord> records;
  model.exchange().observe([&](const CollectiveRecord& record) { records.push_back(record); });
  ForwardPass pass = model.forward(batch, {}, Pass::training(0));
  EXPECT_FALSE(pass.head_gradients()->norm_D.defined() || pass.head_gradients()->head_VD.defined())
      << "the head is frozen";
  pass.backward(objective.apply(pass.hidden_TD(), batch, pass.head(), pass.head_gradients(), {.items = 300}, sums));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].bytes, model.unit().padded_elements() * 4);
  EXPECT_EQ(records[1].bytes, model.unit().padded_elements() * 4);
}

TEST(FrozenUnits, HoldWhatTheAdapterDoesNotTrain) {
  const ModelConfig config = test::tiny_config(false);
  const std::vector<FrozenUnit> units = frozen_units(config, {{}, {kHead}, false, 0}, 2, quantized_matrices);
  ASSERT_EQ(std::ssize(units), config.num_layers + 2);
  EXPECT_EQ(units.back().plain.parameters.size(), 1u) << "the norm";
  EXPECT_EQ(units[1].quantized.size(), 7u);
  int64_t end = units[1].plain.num_elements * 2;
  for (const FrozenUnit::Quantized& matrix : units[1].quantized) {
    EXPECT_GE(matrix.offset_bytes, end);
    EXPECT_EQ(matrix.offset_bytes % 64, 0);
    end = matrix.offset_bytes + matrix.format.layout.num_bytes;
  }
  EXPECT_GE(units[1].num_bytes, end);
}

}  // namespace
}  // namespace plumb
