// The entry point for libFuzzer.
#include "tests/fuzz/fuzz_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  plumb::fuzz::accepts({reinterpret_cast<const char*>(data), size});
  return 0;
}
