#include "hw/cpu/soft_float.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

namespace ashlar::fp {

namespace {

using Wide = unsigned __int128;

// A finite value other than zero: significand * 2^exponent, the significand's bit 63 set.
struct Number {
    bool negative;
    int exponent;
    uint64_t significand;
};

template <typename F>
bool is_nan(Bits<F> a) {
    return (a & ~Format<F>::kSign) > Format<F>::kInfinity;
}
template <typename F>
bool is_signalling(Bits<F> a) {
    return is_nan<F>(a) && !(a & Format<F>::kQuiet);
}
template <typename F>
bool is_infinity(Bits<F> a) {
    return (a & ~Format<F>::kSign) == Format<F>::kInfinity;
}
template <typename F>
bool is_zero(Bits<F> a) {
    return !(a & ~Format<F>::kSign);
}
template <typename F>
bool is_negative(Bits<F> a) {
    return a & Format<F>::kSign;
}
template <typename F>
Bits<F> with_sign(Bits<F> magnitude, bool negative) {
    return magnitude | (negative ? Format<F>::kSign : 0);
}

template <typename F>
Bits<F> nan_of(std::initializer_list<Bits<F>> operands, uint32_t& flags) {
    for (Bits<F> each : operands)
        if (is_signalling<F>(each))
            flags |= kInvalid;
    return Format<F>::kNan;
}
template <typename F>
Bits<F> invalid(uint32_t& flags) {
    flags |= kInvalid;
    return Format<F>::kNan;
}

template <typename F>
Number unpack(Bits<F> a) {
    const int exponent = static_cast<int>(a >> Format<F>::kFraction & Format<F>::kMaxExponent);
    const uint64_t fraction = a & Format<F>::kFractionMask;
    const uint64_t significand = exponent ? fraction | uint64_t{1} << Format<F>::kFraction : fraction;
    const int shift = std::countl_zero(significand);
    const int unit = std::max(exponent, 1) - Format<F>::kBias - static_cast<int>(Format<F>::kFraction);
    return {is_negative<F>(a), unit - shift, significand << shift};
}

int leading_zeros(Wide value) {
    const auto high = static_cast<uint64_t>(value >> 64);
    return high ? std::countl_zero(high) : 64 + std::countl_zero(static_cast<uint64_t>(value));
}

// The lowest bit stands for all that were shifted out.
Wide shift_right_jamming(Wide value, int count) {
    if (count <= 0)
        return value;
    if (count > 127)
        return value != 0;
    return value >> count | ((value & ((Wide{1} << count) - 1)) != 0);
}

// Whether a magnitude of which `rest` is cut off (`half` would be half a unit) is to be one unit more.
bool rounds_up(bool negative, bool odd, Wide rest, Wide half, unsigned rounding) {
    switch (rounding) {
        case kNearestEven:
            return rest > half || (rest == half && odd);
        case kDown:
            return rest && negative;
        case kUp:
            return rest && !negative;
        case kNearestAway:
            return rest >= half;
        default:
            return false;
    }
}

template <typename F>
Bits<F> overflowed(bool negative, unsigned rounding, uint32_t& flags) {
    flags |= kOverflow | kInexact;
    const bool away = rounding == kNearestEven || rounding == kNearestAway || (rounding == kUp && !negative) ||
                      (rounding == kDown && negative);
    return with_sign<F>(away ? Format<F>::kInfinity : Format<F>::kInfinity - 1, negative);
}

// The value significand * 2^exponent, not zero, of which the lowest bit may stand for more below it; there must then be
// at least 64 significant bits.
template <typename F>
Bits<F> round_and_pack(bool negative, int exponent, Wide significand, unsigned rounding, uint32_t& flags) {
    using Fmt = Format<F>;
    constexpr int kPrecision = static_cast<int>(Fmt::kFraction) + 1;
    const int shift = leading_zeros(significand);
    significand <<= shift;
    // Of a value in [1, 2) this is the bias.
    const int biased = exponent - shift + 127 + Fmt::kBias;

    const auto round_at = [&](Wide value, int cut, Wide& rest) {
        rest = value & ((Wide{1} << cut) - 1);
        const auto kept = static_cast<uint64_t>(value >> cut);
        return kept + rounds_up(negative, kept & 1, rest, Wide{1} << (cut - 1), rounding);
    };

    int cut = 128 - kPrecision;
    bool tiny = false;
    if (biased < 1) {
        // As if the exponent had no lower end: does it become the smallest normal number?
        Wide rest;
        tiny = biased < 0 || round_at(significand, cut, rest) >> kPrecision == 0;
        const int more = 1 - biased;
        if (cut + more > 127) {
            significand = shift_right_jamming(significand, cut + more - 127);
            cut = 127;
        } else {
            cut += more;
        }
    }
    Wide rest;
    const uint64_t kept = round_at(significand, cut, rest);
    if (rest)
        flags |= kInexact | (tiny ? kUnderflow : 0);
    // The leading bit of a normal number, and a carry out of the fraction, count into the exponent.
    const int base = biased < 1 ? 0 : biased - 1;
    const uint64_t packed_exponent = static_cast<uint64_t>(base) + (kept >> Fmt::kFraction);
    if (packed_exponent >= Fmt::kMaxExponent)
        return overflowed<F>(negative, rounding, flags);
    return with_sign<F>(static_cast<Bits<F>>((static_cast<uint64_t>(base) << Fmt::kFraction) + kept), negative);
}

// The sum of two values of which each significand is less than 2^127.
template <typename F>
Bits<F> add_exact(bool a_negative, int a_exponent, Wide a, bool b_negative, int b_exponent, Wide b, unsigned rounding,
                  uint32_t& flags) {
    const int exponent = std::max(a_exponent, b_exponent);
    a = shift_right_jamming(a, exponent - a_exponent);
    b = shift_right_jamming(b, exponent - b_exponent);
    if (a_negative == b_negative)
        return round_and_pack<F>(a_negative, exponent, a + b, rounding, flags);
    if (a == b)
        return with_sign<F>(0, rounding == kDown);
    return a > b ? round_and_pack<F>(a_negative, exponent, a - b, rounding, flags)
                 : round_and_pack<F>(b_negative, exponent, b - a, rounding, flags);
}

// Of zeros of these signs, and of numbers that cancel each other.
template <typename F>
Bits<F> zero_sum(bool a_negative, bool b_negative, unsigned rounding) {
    return with_sign<F>(0, a_negative == b_negative ? a_negative : rounding == kDown);
}

// The largest whole number whose square is not above `value`, which is less than 2^127.
uint64_t whole_root(Wide value) {
    uint64_t root = 0;
    for (uint64_t bit = uint64_t{1} << 63; bit; bit >>= 1)
        if (Wide{root | bit} * (root | bit) <= value)
            root |= bit;
    return root;
}

}  // namespace

template <typename F>
Bits<F> add(Bits<F> a, Bits<F> b, unsigned rounding, uint32_t& flags) {
    if (is_nan<F>(a) || is_nan<F>(b))
        return nan_of<F>({a, b}, flags);
    if (is_infinity<F>(a))
        return is_infinity<F>(b) && a != b ? invalid<F>(flags) : a;
    if (is_infinity<F>(b))
        return b;
    if (is_zero<F>(a))
        return is_zero<F>(b) ? zero_sum<F>(is_negative<F>(a), is_negative<F>(b), rounding) : b;
    if (is_zero<F>(b))
        return a;
    const Number x = unpack<F>(a), y = unpack<F>(b);
    constexpr int kUp = 62;
    return add_exact<F>(x.negative, x.exponent - kUp, Wide{x.significand} << kUp, y.negative, y.exponent - kUp,
                        Wide{y.significand} << kUp, rounding, flags);
}

template <typename F>
Bits<F> multiply(Bits<F> a, Bits<F> b, unsigned rounding, uint32_t& flags) {
    if (is_nan<F>(a) || is_nan<F>(b))
        return nan_of<F>({a, b}, flags);
    const bool negative = is_negative<F>(a) != is_negative<F>(b);
    if (is_infinity<F>(a) || is_infinity<F>(b))
        return is_zero<F>(a) || is_zero<F>(b) ? invalid<F>(flags) : with_sign<F>(Format<F>::kInfinity, negative);
    if (is_zero<F>(a) || is_zero<F>(b))
        return with_sign<F>(0, negative);
    const Number x = unpack<F>(a), y = unpack<F>(b);
    return round_and_pack<F>(negative, x.exponent + y.exponent, Wide{x.significand} * y.significand, rounding, flags);
}

template <typename F>
Bits<F> divide(Bits<F> a, Bits<F> b, unsigned rounding, uint32_t& flags) {
    if (is_nan<F>(a) || is_nan<F>(b))
        return nan_of<F>({a, b}, flags);
    const bool negative = is_negative<F>(a) != is_negative<F>(b);
    if (is_infinity<F>(a))
        return is_infinity<F>(b) ? invalid<F>(flags) : with_sign<F>(Format<F>::kInfinity, negative);
    if (is_infinity<F>(b))
        return with_sign<F>(0, negative);
    if (is_zero<F>(b)) {
        if (is_zero<F>(a))
            return invalid<F>(flags);
        flags |= kDivideByZero;
        return with_sign<F>(Format<F>::kInfinity, negative);
    }
    if (is_zero<F>(a))
        return with_sign<F>(0, negative);
    const Number x = unpack<F>(a), y = unpack<F>(b);
    const Wide dividend = Wide{x.significand} << 64;
    const Wide quotient = dividend / y.significand;
    const bool rest = dividend % y.significand != 0;
    return round_and_pack<F>(negative, x.exponent - y.exponent - 65, quotient << 1 | rest, rounding, flags);
}

template <typename F>
Bits<F> square_root(Bits<F> a, unsigned rounding, uint32_t& flags) {
    if (is_nan<F>(a))
        return nan_of<F>({a}, flags);
    if (is_zero<F>(a))
        return a;
    if (is_negative<F>(a))
        return invalid<F>(flags);
    if (is_infinity<F>(a))
        return a;
    const Number x = unpack<F>(a);
    const int up = 62 + ((x.exponent - 62) & 1);
    const Wide square = Wide{x.significand} << up;
    const uint64_t root = whole_root(square);
    const bool rest = Wide{root} * root != square;
    return round_and_pack<F>(false, (x.exponent - up) / 2 - 1, Wide{root} << 1 | rest, rounding, flags);
}

template <typename F>
Bits<F> multiply_add(Bits<F> a, Bits<F> b, Bits<F> c, unsigned rounding, uint32_t& flags) {
    // Infinity times zero is invalid even if a quiet NaN is added.
    const bool impossible = (is_infinity<F>(a) && is_zero<F>(b)) || (is_zero<F>(a) && is_infinity<F>(b));
    if (impossible)
        return invalid<F>(flags);
    if (is_nan<F>(a) || is_nan<F>(b) || is_nan<F>(c))
        return nan_of<F>({a, b, c}, flags);
    const bool negative = is_negative<F>(a) != is_negative<F>(b);
    if (is_infinity<F>(a) || is_infinity<F>(b))
        return is_infinity<F>(c) && is_negative<F>(c) != negative ? invalid<F>(flags)
                                                                  : with_sign<F>(Format<F>::kInfinity, negative);
    if (is_infinity<F>(c))
        return c;
    if (is_zero<F>(a) || is_zero<F>(b))
        return is_zero<F>(c) ? zero_sum<F>(negative, is_negative<F>(c), rounding) : c;
    const Number x = unpack<F>(a), y = unpack<F>(b);
    // At least 22 of the product's low bits are zero, and 73 of the addend's: what is jammed is either nothing, or of
    // the much smaller one.
    const Wide product = Wide{x.significand} * y.significand >> 2;
    const int exponent = x.exponent + y.exponent + 2;
    if (is_zero<F>(c))
        return round_and_pack<F>(negative, exponent, product, rounding, flags);
    const Number z = unpack<F>(c);
    constexpr int kUp = 62;
    return add_exact<F>(negative, exponent, product, z.negative, z.exponent - kUp, Wide{z.significand} << kUp, rounding,
                        flags);
}

namespace {

// Of two that are no NaNs: -1 if a is less than b, 0 if they are equal (also zeros of unlike signs), else 1.
template <typename F>
int compare(Bits<F> a, Bits<F> b) {
    if (a == b || (is_zero<F>(a) && is_zero<F>(b)))
        return 0;
    if (is_negative<F>(a) != is_negative<F>(b))
        return is_negative<F>(a) ? -1 : 1;
    return (a < b) != is_negative<F>(a) ? -1 : 1;
}

template <typename F>
Bits<F> choose(Bits<F> a, Bits<F> b, bool smaller, uint32_t& flags) {
    if (is_signalling<F>(a) || is_signalling<F>(b))
        flags |= kInvalid;
    if (is_nan<F>(a))
        return is_nan<F>(b) ? Format<F>::kNan : b;
    if (is_nan<F>(b))
        return a;
    // Here -0 is less than +0.
    const bool a_is_less = is_zero<F>(a) && is_zero<F>(b) ? is_negative<F>(a) : compare<F>(a, b) < 0;
    return a_is_less == smaller ? a : b;
}

}  // namespace

template <typename F>
Bits<F> minimum(Bits<F> a, Bits<F> b, uint32_t& flags) {
    return choose<F>(a, b, true, flags);
}

template <typename F>
Bits<F> maximum(Bits<F> a, Bits<F> b, uint32_t& flags) {
    return choose<F>(a, b, false, flags);
}

template <typename F>
bool equal(Bits<F> a, Bits<F> b, uint32_t& flags) {
    if (is_nan<F>(a) || is_nan<F>(b)) {
        nan_of<F>({a, b}, flags);
        return false;
    }
    return compare<F>(a, b) == 0;
}

template <typename F>
bool less(Bits<F> a, Bits<F> b, uint32_t& flags) {
    if (is_nan<F>(a) || is_nan<F>(b)) {
        flags |= kInvalid;
        return false;
    }
    return compare<F>(a, b) < 0;
}

template <typename F>
bool less_or_equal(Bits<F> a, Bits<F> b, uint32_t& flags) {
    if (is_nan<F>(a) || is_nan<F>(b)) {
        flags |= kInvalid;
        return false;
    }
    return compare<F>(a, b) <= 0;
}

template <typename F>
unsigned classify(Bits<F> a) {
    if (is_nan<F>(a))
        return is_signalling<F>(a) ? 1 << 8 : 1 << 9;
    const bool negative = is_negative<F>(a);
    if (is_infinity<F>(a))
        return negative ? 1 << 0 : 1 << 7;
    if (is_zero<F>(a))
        return negative ? 1 << 3 : 1 << 4;
    const bool subnormal = !(a & Format<F>::kInfinity);
    if (subnormal)
        return negative ? 1 << 2 : 1 << 5;
    return negative ? 1 << 1 : 1 << 6;
}

template <typename I, typename F>
I to_integer(Bits<F> a, unsigned rounding, uint32_t& flags) {
    constexpr I kMin = std::numeric_limits<I>::min(), kMax = std::numeric_limits<I>::max();
    const auto saturate = [&](bool negative) {
        flags |= kInvalid;
        return negative ? kMin : kMax;
    };
    if (is_nan<F>(a))
        return saturate(false);
    if (is_infinity<F>(a))
        return saturate(is_negative<F>(a));
    if (is_zero<F>(a))
        return 0;
    const Number x = unpack<F>(a);
    if (x.exponent > 0)
        return saturate(x.negative);
    // With the point in the middle.
    const Wide fixed = shift_right_jamming(Wide{x.significand} << 64, -x.exponent);
    const Wide rest = fixed & ~uint64_t{0};
    Wide magnitude = fixed >> 64;
    magnitude += rounds_up(x.negative, magnitude & 1, rest, Wide{1} << 63, rounding);
    const Wide limit = x.negative ? (std::is_signed_v<I> ? Wide{static_cast<std::make_unsigned_t<I>>(kMax)} + 1 : 0)
                                  : Wide{static_cast<std::make_unsigned_t<I>>(kMax)};
    if (magnitude > limit)
        return saturate(x.negative);
    if (rest)
        flags |= kInexact;
    const auto low = static_cast<std::make_unsigned_t<I>>(magnitude);
    return static_cast<I>(x.negative ? 0 - low : low);
}

template <typename F, typename I>
Bits<F> from_integer(I value, unsigned rounding, uint32_t& flags) {
    if (value == 0)
        return 0;
    const bool negative = value < 0;
    const auto wide = static_cast<uint64_t>(value);
    return round_and_pack<F>(negative, 0, negative ? 0 - wide : wide, rounding, flags);
}

uint64_t widen(uint32_t a, uint32_t& flags) {
    const bool negative = is_negative<Single>(a);
    if (is_nan<Single>(a)) {
        nan_of<Single>({a}, flags);
        return Format<Double>::kNan;
    }
    if (is_infinity<Single>(a))
        return with_sign<Double>(Format<Double>::kInfinity, negative);
    if (is_zero<Single>(a))
        return with_sign<Double>(0, negative);
    const Number x = unpack<Single>(a);
    return round_and_pack<Double>(negative, x.exponent, x.significand, kNearestEven, flags);
}

uint32_t narrow(uint64_t a, unsigned rounding, uint32_t& flags) {
    const bool negative = is_negative<Double>(a);
    if (is_nan<Double>(a)) {
        nan_of<Double>({a}, flags);
        return Format<Single>::kNan;
    }
    if (is_infinity<Double>(a))
        return with_sign<Single>(Format<Single>::kInfinity, negative);
    if (is_zero<Double>(a))
        return with_sign<Single>(0, negative);
    const Number x = unpack<Double>(a);
    return round_and_pack<Single>(negative, x.exponent, x.significand, rounding, flags);
}

#define FOR_FORMAT(F)                                                                 \
    template Bits<F> add<F>(Bits<F>, Bits<F>, unsigned, uint32_t&);                   \
    template Bits<F> multiply<F>(Bits<F>, Bits<F>, unsigned, uint32_t&);              \
    template Bits<F> divide<F>(Bits<F>, Bits<F>, unsigned, uint32_t&);                \
    template Bits<F> square_root<F>(Bits<F>, unsigned, uint32_t&);                    \
    template Bits<F> multiply_add<F>(Bits<F>, Bits<F>, Bits<F>, unsigned, uint32_t&); \
    template Bits<F> minimum<F>(Bits<F>, Bits<F>, uint32_t&);                         \
    template Bits<F> maximum<F>(Bits<F>, Bits<F>, uint32_t&);                         \
    template bool equal<F>(Bits<F>, Bits<F>, uint32_t&);                              \
    template bool less<F>(Bits<F>, Bits<F>, uint32_t&);                               \
    template bool less_or_equal<F>(Bits<F>, Bits<F>, uint32_t&);                      \
    template unsigned classify<F>(Bits<F>);                                           \
    template int32_t to_integer<int32_t, F>(Bits<F>, unsigned, uint32_t&);            \
    template uint32_t to_integer<uint32_t, F>(Bits<F>, unsigned, uint32_t&);          \
    template int64_t to_integer<int64_t, F>(Bits<F>, unsigned, uint32_t&);            \
    template uint64_t to_integer<uint64_t, F>(Bits<F>, unsigned, uint32_t&);          \
    template Bits<F> from_integer<F, int32_t>(int32_t, unsigned, uint32_t&);          \
    template Bits<F> from_integer<F, uint32_t>(uint32_t, unsigned, uint32_t&);        \
    template Bits<F> from_integer<F, int64_t>(int64_t, unsigned, uint32_t&);          \
    template Bits<F> from_integer<F, uint64_t>(uint64_t, unsigned, uint32_t&);

FOR_FORMAT(Single)
FOR_FORMAT(Double)

}  // namespace ashlar::fp
