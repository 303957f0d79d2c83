#pragma once

// ATen's portable vectors at the width of the processor the library is compiled for.
//
// ATen compiles its own kernels once per instruction set and tells its headers which one by these
// macros; a library outside ATen is compiled once, so the compiler's own macros decide. The
// namespace inside at::vec carries the name, so nothing here collides with ATen's own instances.
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define CPU_CAPABILITY AVX512
#define CPU_CAPABILITY_AVX512
#elif defined(__AVX2__) && defined(__FMA__)
#define CPU_CAPABILITY AVX2
#define CPU_CAPABILITY_AVX2
#else
#define CPU_CAPABILITY DEFAULT
#endif

#include <ATen/cpu/vec/vec.h>
