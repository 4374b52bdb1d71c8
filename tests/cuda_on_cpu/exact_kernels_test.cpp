// Kernels whose results have the bits of the CPU's: casts, dropout, rows, ordered sums, squares, NF4, scores,
// checksums; and AdamW.
#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/exact_sum.hpp"
#include "lib/kernels/dynamic_map.hpp"
#include "lib/model/nf4.hpp"
#include "lib/nn/tensor_ops.hpp"
#include "lib/optim/adamw_8bit.hpp"
#include "tests/cuda_on_cpu/schedules.hpp"

namespace plumb {
namespace {

template <class T>
class ExactCudaKernels : public Kernels<T> {};
TYPED_TEST_SUITE(ExactCudaKernels, ElementTypes);

/// Every upper half of a float with some lower halves, so that all ties and special values occur.
at::Tensor many_floats() {
  const at::Tensor floats_of_halves = at::empty({3 << 16}, at::kFloat);
  const uint32_t lower_halves[] = {0, 0x8000, 0x8001};
  for (uint32_t i = 0; i < 3 << 16; ++i) {
    const auto x = std::bit_cast<float>((i / 3) << 16 | lower_halves[i % 3]);
    data_of<float>(floats_of_halves)[i] = std::isnan(x) ? 1.0f : x;
  }
  return floats_of_halves;
}

TEST(ExactCasts, HaveTheBitsOfTheCpu) {
  const at::Tensor x = many_floats();
  const at::Tensor rounded = at::empty({x.numel()}, at::kBFloat16), of_cpu = at::empty_like(rounded);
  cuda::from_float(data_of<float>(x), data_of<BFloat16>(rounded), x.numel(), kStream);
  activation_kernels<BFloat16>().from_float(data_of<float>(x), data_of<BFloat16>(of_cpu), x.numel());
  EXPECT_TRUE(same_bits(rounded, of_cpu));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  BFloat16 rounded_nan;
  cuda::from_float(&nan, &rounded_nan, 1, kStream);
  EXPECT_GT(rounded_nan.bits & 0x7fff, 0x7f80);
}

TYPED_TEST(ExactCudaKernels, CastsAndDropout) {
  using T = TypeParam;
  for (const int64_t n : {3, 2053}) {
    const at::Tensor x = misaligned(this->randn({n})), start = at::randn({n});
    const at::Tensor widened = floats({n}), sum = start.clone();
    activation_kernels<T>().to_float(data_of<T>(x), data_of<float>(widened), n);
    activation_kernels<T>().add_to_float(data_of<T>(x), data_of<float>(sum), n);
    const Dropout dropout = {0.3, 12345678901, uint64_t{7} << 32 | 9};
    const at::Tensor dropped = cpu_ops().drop_out(x, dropout);
    const auto got = on_all_schedules({unwritten(widened), start, unwritten(x)}, [&](const auto& out) {
      cuda::to_float(data_of<T>(x), data_of<float>(out[0]), n, kStream);
      cuda::add_to_float(data_of<T>(x), data_of<float>(out[1]), n, kStream);
      cuda::drop_out(data_of<T>(x), data_of<T>(out[2]), n, dropout.seed, dropout.stream,
                     static_cast<uint32_t>(dropout.rate * 0x1p32), static_cast<float>(1 / (1 - dropout.rate)), kStream);
    });
    EXPECT_TRUE(same_bits(got[0], widened));
    EXPECT_TRUE(same_bits(got[1], sum));
    EXPECT_TRUE(same_bits(got[2], dropped));
  }
}

TYPED_TEST(ExactCudaKernels, RowsByIndexAndEmbeddingGradients) {
  using T = TypeParam;
  constexpr int64_t kVocabulary = 9;
  for (const int64_t dim : {13, 264}) {
    const at::Tensor x = this->randn({6, dim}), start = at::randn({kVocabulary, dim});
    const std::vector<int64_t> rows = {5, 0, 3}, tokens = {4, 2, 4, 8, 4, 2};
    constexpr int64_t kFrozen = 8;
    const at::Tensor taken = gather_rows(x, as_tensor(rows)), sums = start.clone();
    cpu_ops().add_rows_by_token(x, tokens, kFrozen, sums);
    const std::vector<int64_t> distinct = {2, 4}, begin = {0, 2, 5}, order = {1, 5, 0, 2, 4};
    const cuda::TokenRuns runs = {2, distinct.data(), begin.data(), order.data()};
    const int64_t padded = taken.size(0);
    const auto got = on_all_schedules({unwritten(taken), at::zeros_like(x), start}, [&](const auto& out) {
      cuda::take_rows(data_of<T>(x), rows.data(), 3, data_of<T>(out[0]), padded, dim, kStream);
      cuda::put_rows(data_of<T>(taken), rows.data(), 3, data_of<T>(out[1]), dim, kStream);
      cuda::add_rows_by_token(data_of<T>(x), runs, data_of<float>(out[2]), dim, kStream);
    });
    EXPECT_TRUE(same_bits(got[0], taken));
    EXPECT_TRUE(same_bits(got[1], scatter_rows(taken, as_tensor(rows), 6)));
    EXPECT_TRUE(same_bits(got[2], sums));
  }
}

TEST(ExactScores, HaveTheBitsOfTheCpu) {
  at::manual_seed(1);
  constexpr int64_t kRows = 3, kDim = 301;
  const at::Tensor x = at::randn({kRows, kDim}), weight = at::randn({kDim}), dscores = at::randn({kRows}),
                   start = at::randn({kDim});
  const at::Tensor scores = floats({kRows}), dx = floats({kRows, kDim}), dweight = start.clone();
  for (int64_t row = 0; row < kRows; ++row) {  // as lib/objective/reward.cpp
    const float *const in = data_of<float>(x) + row * kDim, d = data_of<float>(dscores)[row];
    double sum = 0;
    for (int64_t i = 0; i < kDim; ++i) {
      sum += static_cast<double>(in[i]) * static_cast<double>(data_of<float>(weight)[i]);
      data_of<float>(dweight)[i] += d * in[i];
      data_of<float>(dx)[row * kDim + i] = d * data_of<float>(weight)[i];
    }
    data_of<float>(scores)[row] = static_cast<float>(sum);
  }
  const auto got = on_all_schedules({unwritten(scores), unwritten(dx), start}, [&](const auto& out) {
    cuda::score_rows(data_of<float>(x), data_of<float>(weight), data_of<float>(out[0]), kRows, kDim, kStream);
    cuda::score_rows_backward(data_of<float>(dscores), data_of<float>(x), data_of<float>(weight),
                              data_of<float>(out[1]), data_of<float>(out[2]), kRows, kDim, kStream);
  });
  EXPECT_TRUE(same_bits(got[0], scores));
  EXPECT_TRUE(same_bits(got[1], dx));
  EXPECT_TRUE(same_bits(got[2], dweight));
}

/// The balanced tree written out, then the open subtrees.
TYPED_TEST(ExactCudaKernels, OrderedSum) {
  using T = TypeParam;
  constexpr int64_t kElements = 261;
  for (int level = 0; level <= cuda::kMaxSubtreeLevel; ++level) {
    const int64_t num_leaves = int64_t{1} << level;
    const at::Tensor leaves = this->randn({num_leaves, kElements}), open = at::randn({2, kElements});
    std::vector<at::Tensor> nodes;
    for (int64_t i = 0; i < num_leaves; ++i) nodes.push_back(leaves[i].to(at::kFloat));
    for (; nodes.size() > 1; nodes.resize(nodes.size() / 2))
      for (size_t i = 0; i < nodes.size() / 2; ++i) nodes[i] = nodes[2 * i] + nodes[2 * i + 1];
    for (const int num_open : {0, 2}) {
      at::Tensor expected = nodes[0];
      for (int i = 0; i < num_open; ++i) expected = open[i] + expected;
      const auto got = on_all_schedules({open}, [&](const auto& out) {
        cuda::SubtreeSum sum = {.level = level,
                                .is_bfloat16 = !TestFixture::kIsFloat,
                                .leaves = {},
                                .num_open = num_open,
                                .open = {data_of<float>(out[0]), data_of<float>(out[0]) + kElements},
                                .out = data_of<float>(out[0]) + kElements};
        for (int64_t i = 0; i < num_leaves; ++i) sum.leaves[i] = data_of<T>(leaves) + i * kElements;
        cuda::add_subtree(sum, kElements, kStream);
      });
      EXPECT_TRUE(same_bits(got[0][1], expected)) << num_leaves << " leaves";
    }
  }
}

TEST(ExactSquares, AreThoseOfTheCpu) {
  at::manual_seed(1);
  constexpr int64_t kChunks = 70;
  const at::Tensor x = misaligned(at::randn({kChunks, cuda::kSquaresChunk}) * at::randn({kChunks, 1}).exp());
  x[3].fill_(1e-40f), x[4].fill_(3e38f);
  for (const bool has_infinity : {false, true}) {
    if (has_infinity) data_of<float>(x)[1000] = std::numeric_limits<float>::infinity();
    ExactSum expected, sum;
    for (int64_t i = 0; i < kChunks; ++i)
      expected.add(float_kernels().sum_of_squares(data_of<float>(x) + i * cuda::kSquaresChunk, cuda::kSquaresChunk));
    const auto got = on_all_schedules({at::zeros({ExactSum::kNumBins}, at::kLong)}, [&](const auto& out) {
      cuda::add_squares(data_of<float>(x), x.numel(), data_of<int64_t>(out[0]), kStream);
    });
    std::copy_n(data_of<int64_t>(got[0]), ExactSum::kNumBins, sum.bins().begin());
    sum.carry();
    expected.carry();
    EXPECT_TRUE(std::equal(sum.bins().begin(), sum.bins().end(), expected.bins().begin()));
    EXPECT_EQ(std::isnan(sum.value()), has_infinity);
  }
}

TYPED_TEST(ExactCudaKernels, SquaredRowNorms) {
  using T = TypeParam;
  for (const int64_t dim : {5, 64, 203}) {
    const at::Tensor x = this->randn({70, dim}), expected = cpu_ops().squared_row_norms(x);
    const auto got = on_all_schedules({unwritten(expected)}, [&](const auto& out) {
      cuda::squared_row_norms(data_of<T>(x), data_of<float>(out[0]), 70, dim, kStream);
    });
    EXPECT_TRUE(same_bits(got[0], expected)) << dim;
  }
}

/// The parts of a quantized matrix.
cuda::Nf4Matrix parts_of(const Nf4View& view) {
  const auto part = [&]<class T>(const T*, int64_t offset) { return reinterpret_cast<const T*>(view.data + offset); };
  constexpr const float* kFloats = nullptr;
  constexpr const uint8_t* kBytes = nullptr;
  const Nf4Layout& layout = view.layout;
  cuda::Nf4Matrix matrix = {};
  matrix.codes = part(kBytes, layout.codes_offset);
  matrix.original = view.original_dtype;
  if (layout.is_nested) {
    matrix.absmax_codes = part(kBytes, layout.absmax_offset);
    matrix.nested_absmax = part(kFloats, layout.nested_absmax_offset);
    matrix.map = part(kFloats, layout.nested_map_offset);
    matrix.mean = part(kFloats, layout.nested_mean_offset);
  } else {
    matrix.scales = part(kFloats, layout.absmax_offset);
  }
  return matrix;
}

TYPED_TEST(ExactCudaKernels, Nf4Dequantize) {
  using T = TypeParam;
  constexpr int64_t kElements = 64 * 260 + 37;  // more than one nested scale, and a rest
  std::vector<float> values(kElements);
  for (int64_t i = 0; i < kElements; ++i)
    values[i] = std::sin(static_cast<float>(i)) * std::exp(static_cast<float>(i % 4000) * 0.004f - 12);
  for (const bool is_nested : {false, true})
    for (const Dtype original : {Dtype::kF32, Dtype::kBf16, Dtype::kF16}) {
      const Nf4Layout layout = nf4_layout(kElements, is_nested);
      std::vector<std::byte> bytes(layout.num_bytes);
      nf4_quantize(values, layout, bytes);
      const Nf4View view = {layout, bytes.data(), original};
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, kElements}, {64 * 3, 64 * 3 + 100}, {61, 800}}) {
        const at::Tensor expected = at::empty({end - begin}, this->kDtype);
        cpu_ops().nf4_dequantize(view, begin, expected);
        const at::Tensor got = unwritten(expected);
        cuda::nf4_dequantize(parts_of(view), begin, end - begin, data_of<T>(got), kStream);
        EXPECT_TRUE(same_bits(got, expected)) << begin << " to " << end;
      }
    }
}

/// Copies of the tables, which the kernel may read from any address.
cuda::DynamicTables tables_of(const DynamicMap& map) { return {map.values.data(), map.thresholds.data()}; }

TEST(ExactNf4, QuantizesToTheBytesOfTheCpu) {
  for (const int64_t elements : {1, 64 * 260 + 37}) {
    at::manual_seed(1);
    const at::Tensor values = at::randn({elements});
    if (elements > 200) values.narrow(0, 64, 64).zero_();
    const Nf4Layout plain = nf4_layout(elements, false), nested = nf4_layout(elements, true);
    std::vector<std::byte> bytes(plain.num_bytes), nested_bytes(nested.num_bytes);
    const std::span all(data_of<float>(values), static_cast<size_t>(elements));
    nf4_quantize(all, plain, bytes);
    nf4_quantize(all, nested, nested_bytes);
    const int64_t blocks = plain.num_blocks();
    const cuda::Nf4Matrix expected = parts_of({plain, bytes.data(), Dtype::kF32}),
                          expected_nested = parts_of({nested, nested_bytes.data(), Dtype::kF32});
    const at::Tensor codes = at::zeros({plain.num_code_bytes()}, at::kByte), scales = floats({blocks}),
                     scale_codes = at::zeros({blocks}, at::kByte), nested_scales = floats({nested.num_nested_blocks()});
    const auto got = on_all_schedules({codes, scales, scale_codes, nested_scales}, [&](const auto& out) {
      cuda::nf4_quantize(data_of<float>(values), elements, data_of<uint8_t>(out[0]), data_of<float>(out[1]), kStream);
      cuda::quantize_dynamic(tables_of(dynamic_map(true)), data_of<float>(out[1]), *expected_nested.mean, blocks,
                             data_of<uint8_t>(out[2]), data_of<float>(out[3]), kStream);
    });
    EXPECT_EQ(std::memcmp(got[0].data_ptr(), expected.codes, codes.nbytes()), 0);
    EXPECT_EQ(std::memcmp(got[1].data_ptr(), expected.scales, scales.nbytes()), 0);
    EXPECT_EQ(std::memcmp(got[2].data_ptr(), expected_nested.absmax_codes, scale_codes.nbytes()), 0);
    EXPECT_EQ(std::memcmp(got[3].data_ptr(), expected_nested.nested_absmax, nested_scales.nbytes()), 0);
  }
}

constexpr AdamWStep kStep = {.learning_rate = 1e-2f,
                             .beta1 = 0.9f,
                             .beta2 = 0.99f,
                             .epsilon = 1e-8f,
                             .weight_decay = 0.1f,
                             .bias_correction1 = 0.271f,
                             .bias_correction2_sqrt = 0.17f,
                             .gradient_scale = 0.5f};

TEST(CudaAdamW, EqualsTheReference) {
  at::manual_seed(1);
  constexpr int64_t kElements = 1003;
  const at::Tensor parameter = at::randn({kElements}), gradient = at::randn({kElements}),
                   moment1 = at::randn({kElements}), moment2 = at::rand({kElements});
  const at::Tensor p = parameter.clone(), m = moment1.clone(), v = moment2.clone();
  float_kernels().adamw(data_of<float>(p), data_of<float>(gradient), data_of<float>(m), data_of<float>(v), kElements,
                        kStep);
  const auto got =
      on_all_schedules({parameter, moment1, moment2, unwritten(parameter.to(at::kBFloat16))}, [&](const auto& out) {
        cuda::adamw(data_of<float>(out[0]), data_of<float>(gradient), data_of<float>(out[1]), data_of<float>(out[2]),
                    data_of<BFloat16>(out[3]), kElements, kStep, kStream);
      });
  const auto exact = [](const at::Tensor& x) { return x.to(at::kDouble); };
  const auto expected = reference::adamw({exact(parameter), exact(moment1), exact(moment2)}, exact(gradient), kStep);
  expect_as_good(got[0], p, expected.parameter);
  expect_as_good(got[1], m, expected.moment1);
  expect_as_good(got[2], v, expected.moment2);
  EXPECT_TRUE(same_bits(got[3], got[0].to(at::kBFloat16)));
}

/// Beside the CPU's copy without fused multiply-add, which this build does not use either: the same bits.
TEST(CudaAdamW, UpdatesMomentsInEightBits) {
  at::manual_seed(1);
  constexpr int64_t kElements = 256 * 9 + 77, kBlocks = 10;
  const std::vector<DecayRun> runs = {{0, 100, true}, {100, 103, false}, {103, 1024, true}, {1024, kElements, false}};
  std::vector<int64_t> run_end;
  bool is_decayed[4];
  for (size_t i = 0; i < runs.size(); ++i) run_end.push_back(runs[i].end), is_decayed[i] = runs[i].is_decayed;
  const at::Tensor parameter = at::randn({kElements}), gradient = at::randn({kElements});
  const auto byte = at::TensorOptions().dtype(at::kByte);
  const std::vector<at::Tensor> start = {parameter,
                                         at::randint(256, {kElements}, byte),
                                         at::randint(256, {kElements}, byte),
                                         at::rand({kBlocks}),
                                         at::rand({kBlocks}),
                                         at::zeros({kElements}, at::kBFloat16)};
  const auto got = on_all_schedules(start, [&](const auto& out) {
    const cuda::Adamw8Bit arrays = {.parameter = data_of<float>(out[0]),
                                    .gradient = data_of<float>(gradient),
                                    .codes1 = data_of<uint8_t>(out[1]),
                                    .codes2 = data_of<uint8_t>(out[2]),
                                    .scales1 = data_of<float>(out[3]),
                                    .scales2 = data_of<float>(out[4]),
                                    .tables1 = tables_of(dynamic_map(true)),
                                    .tables2 = tables_of(dynamic_map(false)),
                                    .run_end = run_end.data(),
                                    .is_decayed = is_decayed,
                                    .num_runs = 4,
                                    .copy = data_of<BFloat16>(out[5])};
    cuda::adamw_8bit(arrays, kElements, kStep, kStream);
  });
  const auto elements = static_cast<size_t>(kElements);
  const at::Tensor p = parameter.clone(), codes1 = start[1].clone(), codes2 = start[2].clone(),
                   scales1 = start[3].clone(), scales2 = start[4].clone();
  adamw_update_8bit({data_of<float>(p), elements}, {data_of<float>(gradient), elements},
                    {{data_of<uint8_t>(codes1), elements},
                     {data_of<uint8_t>(codes2), elements},
                     {data_of<float>(scales1), kBlocks},
                     {data_of<float>(scales2), kBlocks}},
                    runs, kStep);
  // the CPU may fuse products and sums, which moves a value by a unit in the last place and seldom a code by one
  EXPECT_LE(reference::relative_distance(got[0], p), 4 * kFloatRoundoff);
  EXPECT_LE(reference::relative_distance(got[3], scales1), 4 * kFloatRoundoff);
  EXPECT_LE(reference::relative_distance(got[4], scales2), 4 * kFloatRoundoff);
  for (const auto& [got_codes, codes] : {std::pair(got[1], codes1), std::pair(got[2], codes2)}) {
    const at::Tensor difference = (got_codes.to(at::kInt) - codes.to(at::kInt)).abs();
    EXPECT_LE(difference.max().item<int>(), 1);
    EXPECT_LE(difference.sum().item<int64_t>(), kElements / 200);
  }
  EXPECT_TRUE(same_bits(got[5], got[0].to(at::kBFloat16)));
}

TEST(Xxh3, HasTheBitsOfTheLibrary) {
  const at::Tensor data = at::randint(256, {70'000}, at::kByte);
  // sizes around a block of 1024 bytes and around 64 of them, with last pieces of all lengths that matter
  for (const auto& [bytes, piece] : {std::pair(248, 4096),
                                     {256, 256},
                                     {1024, 4096},
                                     {1032, 4096},
                                     {4096, 1024},
                                     {4344, 1024},
                                     {65'536, 65'536},
                                     {65'544, 65'536 + 8},
                                     {69'960, 66'568}}) {
    const int64_t num_pieces = (bytes + piece - 1) / piece;
    const auto begin_of = [&, bytes = bytes, piece = piece](int64_t offset) {
      const at::Tensor expected = at::empty({num_pieces, 2}, at::kLong);
      for (int64_t i = 0; i < num_pieces; ++i) {
        const int64_t size = std::min<int64_t>(piece, bytes - i * piece);
        const XXH128_hash_t hash = XXH3_128bits(data_of<uint8_t>(data) + offset + i * piece, static_cast<size_t>(size));
        data_of<uint64_t>(expected)[2 * i] = hash.low64;
        data_of<uint64_t>(expected)[2 * i + 1] = hash.high64;
      }
      const auto got = on_all_schedules({at::zeros_like(expected)}, [&](const auto& out) {
        cuda::xxh3_128(data_of<uint8_t>(data) + offset, bytes, piece, data_of<uint64_t>(out[0]), kStream);
      });
      EXPECT_TRUE(got[0].equal(expected)) << bytes << " by " << piece << " from " << offset;
    };
    begin_of(0);
    begin_of(8);  // not at a multiple of 16
  }
  uint64_t hash[2];
  EXPECT_THROW(cuda::xxh3_128(data.data_ptr(), 240, 4096, hash, kStream), std::logic_error);
  EXPECT_THROW(cuda::xxh3_128(data.data_ptr(), 4096 + 8, 4096, hash, kStream), std::logic_error);
}

}  // namespace
}  // namespace plumb
