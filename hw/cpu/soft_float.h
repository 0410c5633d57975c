// Soft float: IEEE 754 binary32 and binary64 as the F and D extensions have it, in integer arithmetic.
//
// Values are their bits. Every operation computes exactly and rounds once, in any of the five modes; tininess is
// detected after rounding; a NaN that results is the canonical one. `flags` are added to, in the layout of fflags.
#pragma once

#include <cstdint>

namespace ashlar::fp {

// As in frm.
enum Rounding : unsigned { kNearestEven = 0, kTowardZero = 1, kDown = 2, kUp = 3, kNearestAway = 4 };

enum Flag : uint32_t { kInexact = 1, kUnderflow = 2, kOverflow = 4, kDivideByZero = 8, kInvalid = 16 };

struct Single {
    using Bits = uint32_t;
    using Host = float;
    static constexpr unsigned kFraction = 23, kExponent = 8;
};

struct Double {
    using Bits = uint64_t;
    using Host = double;
    static constexpr unsigned kFraction = 52, kExponent = 11;
};

template <typename F>
struct Format : F {
    using F::kExponent;
    using F::kFraction;
    using typename F::Bits;
    static constexpr unsigned kBits = 1 + kExponent + kFraction;
    static constexpr int kBias = (1 << (kExponent - 1)) - 1;
    static constexpr unsigned kMaxExponent = (1u << kExponent) - 1;
    static constexpr Bits kSign = Bits{1} << (kBits - 1);
    static constexpr Bits kInfinity = Bits{kMaxExponent} << kFraction;
    static constexpr Bits kQuiet = Bits{1} << (kFraction - 1);
    static constexpr Bits kNan = kInfinity | kQuiet;
    static constexpr Bits kFractionMask = (Bits{1} << kFraction) - 1;
};

template <typename F>
using Bits = typename F::Bits;

template <typename F>
Bits<F> add(Bits<F> a, Bits<F> b, unsigned rounding, uint32_t& flags);
template <typename F>
Bits<F> multiply(Bits<F> a, Bits<F> b, unsigned rounding, uint32_t& flags);
template <typename F>
Bits<F> divide(Bits<F> a, Bits<F> b, unsigned rounding, uint32_t& flags);
template <typename F>
Bits<F> square_root(Bits<F> a, unsigned rounding, uint32_t& flags);
// a * b + c
template <typename F>
Bits<F> multiply_add(Bits<F> a, Bits<F> b, Bits<F> c, unsigned rounding, uint32_t& flags);

// minimumNumber and maximumNumber of IEEE 754-2019.
template <typename F>
Bits<F> minimum(Bits<F> a, Bits<F> b, uint32_t& flags);
template <typename F>
Bits<F> maximum(Bits<F> a, Bits<F> b, uint32_t& flags);
template <typename F>
bool equal(Bits<F> a, Bits<F> b, uint32_t& flags);
template <typename F>
bool less(Bits<F> a, Bits<F> b, uint32_t& flags);
template <typename F>
bool less_or_equal(Bits<F> a, Bits<F> b, uint32_t& flags);
// The mask of FCLASS.
template <typename F>
unsigned classify(Bits<F> a);

// I: int32_t, uint32_t, int64_t or uint64_t. What does not fit becomes the nearest that does, a NaN the largest.
template <typename I, typename F>
I to_integer(Bits<F> a, unsigned rounding, uint32_t& flags);
template <typename F, typename I>
Bits<F> from_integer(I value, unsigned rounding, uint32_t& flags);

uint64_t widen(uint32_t a, uint32_t& flags);
uint32_t narrow(uint64_t a, unsigned rounding, uint32_t& flags);

}  // namespace ashlar::fp
