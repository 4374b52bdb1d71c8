// Adapters of a matrix with one row per token, the embedding or the head: they train a low-rank term beside it
// (LoRA), or some rows in place of its own (trainable_token_indices). An embedding that is also the head has one for
// both uses. The sum W + scaling left right, as large as the matrix, is never formed.
// Source: PEFT 0.21, tuners/lora/layer.py (Embedding, Linear) and tuners/trainable_tokens/layer.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "lib/model/lora.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

// V = vocabulary, D = hidden_size, R = rank, N = trained rows, T = tokens.

/// Values, or their gradients (float32).
struct VocabularyAdapter {
  at::Tensor left_VR, right_RD;  // undefined: no low-rank term
  double scaling = 0;
  Dropout dropout = {};             // of the head's input; a lookup has none
  at::Tensor rows_ND;               // undefined: no rows
  std::span<const int64_t> tokens;  // of rows_ND; the adapter's, which must outlive this

  bool is_empty() const { return !left_VR.defined() && !rows_ND.defined(); }
};

/// Views of the parts for a matrix of this kind in the flat adapter unit or in its gradient.
VocabularyAdapter vocabulary_adapter(const Adapter& adapter, const UnitLayout& unit, ParameterKind kind,
                                     const at::Tensor& flat);

void zero(const VocabularyAdapter& gradients);

/// Turns the rows x of the embedding that belong to token_ids into those of the adapted one.
void adapt_lookup(const VocabularyAdapter& adapter, std::span<const int64_t> token_ids, at::Tensor x_TD);

/// Adds to the gradients of a lookup. frozen_token (-1: none): its own row has no gradient.
void add_lookup_gradients(const VocabularyAdapter& adapter, const at::Tensor& dx_TD, std::span<const int64_t> token_ids,
                          int64_t frozen_token, const VocabularyAdapter& gradients);

}  // namespace plumb
