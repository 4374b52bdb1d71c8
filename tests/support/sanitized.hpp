// For tests that measure memory: under a sanitizer, most of it would be shadow memory and freed blocks.
#pragma once

#include <gtest/gtest.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SKIP_UNDER_SANITIZER() GTEST_SKIP() << "a sanitizer's memory is most of what this would measure"
#else
#define SKIP_UNDER_SANITIZER() static_cast<void>(0)
#endif
