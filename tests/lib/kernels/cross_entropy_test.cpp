// The fused cross-entropy: loss, entropy, correctness and gradient of a row of logits.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/kernels/kernels.hpp"
#include "lib/kernels/reference.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {
namespace {

constexpr int64_t kVocabularies[] = {1, 2, 15, 16, 17, 50, 257, 1000};

// Logits reach 20 in these tests: rounding their difference costs 2^-20 relative in an exponential, and a lane adds up
// to 63 of them one after the other at 2^-24 each.
constexpr double kError = 1e-5;

template <class T>
class CrossEntropy : public Kernels<T> {
 protected:
  /// Overwrites the logits with their gradient if gradient_scale, that of every row, is not 0.
  static std::vector<TokenStats> run(const ActivationKernels<T>& kernels, const at::Tensor& logits,
                                     const at::Tensor& labels, TokenLoss kind, float gradient_scale) {
    const std::vector<float> scales(logits.size(0), gradient_scale);
    return run(kernels, logits, labels, kind, gradient_scale != 0 ? scales.data() : nullptr);
  }
  static std::vector<TokenStats> run(const ActivationKernels<T>& kernels, const at::Tensor& logits,
                                     const at::Tensor& labels, TokenLoss kind, const float* gradient_scales) {
    std::vector<TokenStats> stats(logits.size(0));
    kernels.cross_entropy(data_of<T>(logits), data_of<int64_t>(labels), logits.size(0), logits.size(1), kind,
                          gradient_scales, stats.data());
    return stats;
  }
  static at::Tensor random_labels(int64_t rows, int64_t vocab) {
    return at::randint(vocab, {rows}, at::TensorOptions().dtype(at::kLong));
  }
};
TYPED_TEST_SUITE(CrossEntropy, ElementTypes);

TYPED_TEST(CrossEntropy, EqualsTheReference) {
  for (const TokenLoss kind : {TokenLoss::kNll, TokenLoss::kDft})
    for (int64_t rows : {1, 7})
      for (int64_t vocab : kVocabularies) {
        const at::Tensor logits = (this->randn({rows, vocab}) * 4).to(this->kDtype);
        const at::Tensor labels = this->random_labels(rows, vocab);
        const auto expected = reference::cross_entropy(logits.to(at::kDouble), labels, kind);
        this->for_each_copy([&](const auto& kernels) {
          const auto stats = this->run(kernels, logits, labels, kind, 0.0f);
          for (int64_t row = 0; row < rows; ++row) {
            const TokenStats& token = stats[row];
            const double log_probability = expected.log_probability[row].template item<double>();
            EXPECT_NEAR(token.loss, expected.loss[row].template item<double>(), kError) << vocab;
            EXPECT_NEAR(token.log_probability, log_probability, kError) << vocab;
            EXPECT_NEAR(token.entropy, expected.entropy[row].template item<double>(), kError) << vocab;
            EXPECT_EQ(token.is_correct, expected.is_correct[row].template item<bool>()) << vocab;
            EXPECT_NEAR(token.mean_logit, expected.mean_logit[row].template item<double>(), kError) << vocab;
            EXPECT_NEAR(token.log_sum_of_squares, expected.log_sum_of_squares[row].template item<double>(), kError)
                << vocab;
          }
        });
      }
}

TYPED_TEST(CrossEntropy, GradientEqualsThatOfTheReference) {
  constexpr float kScale = 0.0625f;
  for (const TokenLoss kind : {TokenLoss::kNll, TokenLoss::kDft})
    for (int64_t rows : {1, 7})
      for (int64_t vocab : kVocabularies) {
        const at::Tensor logits = (this->randn({rows, vocab}) * 4).to(this->kDtype);
        const at::Tensor labels = this->random_labels(rows, vocab);
        const at::Tensor expected = reference::cross_entropy_backward(logits.to(at::kDouble), labels, kind) * kScale;
        // at the label it is a probability less 1, which may cancel
        const at::Tensor magnitude = expected.abs() + at::one_hot(labels, vocab) * kScale;
        this->for_each_copy([&](const auto& kernels) {
          const at::Tensor gradient = logits.clone();
          const auto stats = this->run(kernels, gradient, labels, kind, kScale);
          const auto without = this->run(kernels, logits, labels, kind, 0.0f);
          EXPECT_LE(error_of(gradient, expected, magnitude), kError + this->kStored) << rows << " x " << vocab;
          for (size_t row = 0; row < stats.size(); ++row) {
            EXPECT_EQ(stats[row].loss, without[row].loss) << "the loss does not depend on whether a gradient is wanted";
            EXPECT_EQ(stats[row].entropy, without[row].entropy);
          }
        });
      }
}

TYPED_TEST(CrossEntropy, EachRowHasItsOwnScaleAndZeroGivesZeros) {
  constexpr float kScales[] = {0.5f, 0.0f, -2.0f};
  for (int64_t vocab : kVocabularies) {
    const at::Tensor logits = (this->randn({3, vocab}) * 4).to(this->kDtype);
    const at::Tensor labels = this->random_labels(3, vocab);
    this->for_each_copy([&](const auto& kernels) {
      const at::Tensor gradient = logits.clone();
      this->run(kernels, gradient, labels, TokenLoss::kNll, kScales);
      for (int64_t row = 0; row < 3; ++row) {
        const at::Tensor alone = logits.narrow(0, row, 1).clone();
        if (kScales[row] == 0)
          alone.zero_();
        else
          this->run(kernels, alone, labels.narrow(0, row, 1), TokenLoss::kNll, kScales[row]);
        EXPECT_TRUE(same_bits(gradient.narrow(0, row, 1).clone(), alone)) << row << " of " << vocab;
      }
      // also for a row that is not finite, whose loss is NaN
      const at::Tensor corrupted = logits.clone();
      corrupted[1][0] = std::numeric_limits<float>::infinity();
      EXPECT_TRUE(std::isnan(this->run(kernels, corrupted, labels, TokenLoss::kNll, kScales)[1].loss));
      EXPECT_TRUE(corrupted[1].eq(0).all().template item<bool>());
    });
  }
}

TYPED_TEST(CrossEntropy, WithoutGradientLeavesTheLogits) {
  const at::Tensor logits = this->randn({3, 53}), labels = this->random_labels(3, 53);
  this->for_each_copy([&](const auto& kernels) {
    const at::Tensor same = logits.clone();
    this->run(kernels, same, labels, TokenLoss::kNll, 0.0f);
    EXPECT_TRUE(same_bits(same, logits));
  });
}

TYPED_TEST(CrossEntropy, OfEqualLogitsTheFirstIsThePrediction) {
  for (int64_t vocab : {5, 16, 37, 200}) {
    // few different values, so that almost every row has ties
    const at::Tensor logits = at::randint(3, {60, vocab}).to(this->kDtype);
    const at::Tensor first = logits.argmax(-1), labels = this->random_labels(60, vocab);
    this->for_each_copy([&](const auto& kernels) {
      const auto of_first = this->run(kernels, logits, first, TokenLoss::kNll, 0.0f);
      const auto of_any = this->run(kernels, logits, labels, TokenLoss::kNll, 0.0f);
      for (int64_t row = 0; row < 60; ++row) {
        EXPECT_TRUE(of_first[row].is_correct);
        const bool is_first = labels[row].template item<int64_t>() == first[row].template item<int64_t>();
        EXPECT_EQ(of_any[row].is_correct, is_first);
      }
    });
  }
}

TYPED_TEST(CrossEntropy, OfALogitThatIsNotFiniteIsNaNInThatRowAlone) {
  constexpr int64_t kVocab = 37;  // two whole groups of lanes and a rest
  const at::Tensor logits = this->randn({3, kVocab}), labels = this->random_labels(3, kVocab);
  for (const TokenLoss kind : {TokenLoss::kNll, TokenLoss::kDft})
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()})
      for (int64_t place = 0; place < kVocab; ++place) {
        at::Tensor corrupted = logits.clone();
        corrupted[1][place] = bad;
        this->for_each_copy([&](const auto& kernels) {
          const auto good = this->run(kernels, logits, labels, kind, 0.0f);
          for (const float scale : {0.0f, 1.0f}) {
            const auto stats = this->run(kernels, corrupted.clone(), labels, kind, scale);
            EXPECT_TRUE(std::isnan(stats[1].loss)) << bad << " at " << place;
            EXPECT_EQ(stats[0].loss, good[0].loss);
            EXPECT_EQ(stats[2].loss, good[2].loss);
          }
        });
      }
}

TYPED_TEST(CrossEntropy, StandsLogitsOfAnySize) {
  for (const double size : {1e3, 1e5, 1e30}) {
    at::Tensor logits = at::zeros({2, 40}).to(this->kDtype);
    logits[0][3] = size;
    logits[1][39] = -size;
    const at::Tensor labels = at::full({2}, 3, at::kLong);
    const auto expected = reference::cross_entropy(logits.to(at::kDouble), labels, TokenLoss::kNll);
    this->for_each_copy([&](const auto& kernels) {
      const at::Tensor gradient = logits.clone();
      const auto stats = this->run(kernels, gradient, labels, TokenLoss::kNll, 1.0f);
      for (int64_t row = 0; row < 2; ++row) {
        EXPECT_NEAR(stats[row].loss, expected.loss[row].template item<double>(), kError) << size;
        EXPECT_NEAR(stats[row].entropy, expected.entropy[row].template item<double>(), kError) << size;
      }
      EXPECT_TRUE(gradient.isfinite().all().template item<bool>());
    });
  }
}

}  // namespace
}  // namespace plumb
