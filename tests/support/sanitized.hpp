// Skips tests that measure memory under a sanitizer, because shadow memory and freed blocks would dominate the result.
#pragma once

#include <gtest/gtest.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SKIP_UNDER_SANITIZER() GTEST_SKIP() << "a sanitizer's own memory would dominate the measurement"
#else
#define SKIP_UNDER_SANITIZER() static_cast<void>(0)
#endif
