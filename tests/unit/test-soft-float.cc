// Soft float against the host's FPU, in the four rounding modes that this has; the fifth against what is known of it.

#include "hw/cpu/soft_float.h"

#include <glib.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>

using namespace ashlar::fp;

namespace {

constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};  // as in frm
constexpr int kRounds = 200'000;

uint32_t flags_of_host() {
    const int raised = std::fetestexcept(FE_ALL_EXCEPT);
    return (raised & FE_INEXACT ? kInexact : 0u) | (raised & FE_UNDERFLOW ? kUnderflow : 0u) |
           (raised & FE_OVERFLOW ? kOverflow : 0u) | (raised & FE_DIVBYZERO ? kDivideByZero : 0u) |
           (raised & FE_INVALID ? kInvalid : 0u);
}

template <typename F>
Bits<F> canonical(typename F::Host value) {
    return value != value ? Format<F>::kNan : std::bit_cast<Bits<F>>(value);
}

// With all kinds of exponents, few of them far from one another, and short and long fractions.
template <typename F>
Bits<F> random_number(std::mt19937_64& random) {
    const auto bits = static_cast<Bits<F>>(random());
    const Bits<F> sign = bits & Format<F>::kSign;
    switch (random() % 8) {
        case 0:
            return bits;
        case 1: {
            constexpr Bits<F> kSpecial[] = {0,
                                            1,
                                            Format<F>::kFractionMask,
                                            Format<F>::kFractionMask + 1,
                                            Format<F>::kInfinity - 1,
                                            Format<F>::kInfinity,
                                            Format<F>::kNan,
                                            Format<F>::kInfinity + 1};
            return sign | kSpecial[random() % std::size(kSpecial)];
        }
        case 2:  // few bits
            return bits & (Format<F>::kSign | Format<F>::kInfinity | Bits<F>{7} << (Format<F>::kFraction - 3));
        case 3:  // many ones
            return bits | (Format<F>::kFractionMask & ~static_cast<Bits<F>>(random() % 4));
        case 4:  // subnormal
            return sign | (bits & Format<F>::kFractionMask) >> random() % Format<F>::kFraction;
        case 5: {  // near the largest, and near the smallest
            const Bits<F> exponent = random() % 2 ? Format<F>::kMaxExponent - 1 - random() % 3 : 1 + random() % 60;
            return sign | exponent << Format<F>::kFraction | (bits & Format<F>::kFractionMask);
        }
        default: {
            const Bits<F> exponent = static_cast<Bits<F>>(Format<F>::kBias) + random() % 64 - 32;
            return sign | exponent << Format<F>::kFraction | (bits & Format<F>::kFractionMask);
        }
    }
}

template <typename F>
typename F::Host host(Bits<F> bits) {
    return std::bit_cast<typename F::Host>(bits);
}

// `on_host` and `soft` of the same operands: the result's bits and the flags.
template <typename F, typename Result, typename OnHost, typename Soft>
void compare(const char* what, std::initializer_list<Bits<F>> operands, OnHost on_host, Soft soft) {
    for (unsigned mode = 0; mode < 4; ++mode) {
        std::fesetround(kModes[mode]);
        std::feclearexcept(FE_ALL_EXCEPT);
        const Result expected = on_host();
        const uint32_t expected_flags = flags_of_host();
        std::fesetround(FE_TONEAREST);
        uint32_t flags = 0;
        const Result result = soft(mode, flags);
        if (result != expected || flags != expected_flags) {
            for (Bits<F> each : operands)
                g_test_message("operand %llx", static_cast<unsigned long long>(each));
            g_test_message("%s mode %u: %llx flags %x, the host says %llx flags %x", what, mode,
                           static_cast<unsigned long long>(result), flags, static_cast<unsigned long long>(expected),
                           expected_flags);
            g_test_fail();
            return;
        }
    }
}

// Volatile: computed when the rounding mode is set, not before.
template <typename T>
T hide(T value) {
    volatile T hidden = value;
    return hidden;
}

template <typename F>
void arithmetic() {
    using B = Bits<F>;
    std::mt19937_64 random(static_cast<uint64_t>(g_test_rand_int()));
    for (int i = 0; i < kRounds && !g_test_failed(); ++i) {
        const B a = random_number<F>(random), b = random_number<F>(random);
        // Often what nearly cancels the product.
        const B product = std::bit_cast<B>(static_cast<typename F::Host>(-(host<F>(a) * host<F>(b))));
        const B c = random() % 3 ? random_number<F>(random) : product + static_cast<B>(random() % 3) - 1;
        compare<F, B>(
            "add", {a, b}, [&] { return canonical<F>(hide(host<F>(a)) + hide(host<F>(b))); },
            [&](unsigned mode, uint32_t& flags) { return add<F>(a, b, mode, flags); });
        compare<F, B>(
            "multiply", {a, b}, [&] { return canonical<F>(hide(host<F>(a)) * hide(host<F>(b))); },
            [&](unsigned mode, uint32_t& flags) { return multiply<F>(a, b, mode, flags); });
        compare<F, B>(
            "divide", {a, b}, [&] { return canonical<F>(hide(host<F>(a)) / hide(host<F>(b))); },
            [&](unsigned mode, uint32_t& flags) { return divide<F>(a, b, mode, flags); });
        compare<F, B>(
            "square root", {a}, [&] { return canonical<F>(std::sqrt(hide(host<F>(a)))); },
            [&](unsigned mode, uint32_t& flags) { return square_root<F>(a, mode, flags); });
        // Infinity times zero plus a quiet NaN is invalid here, and need not be on the host.
        const bool product_is_invalid =
            std::isnan(host<F>(a) * host<F>(b)) && !std::isnan(host<F>(a)) && !std::isnan(host<F>(b));
        if (!product_is_invalid)
            compare<F, B>(
                "multiply-add", {a, b, c},
                [&] { return canonical<F>(std::fma(hide(host<F>(a)), hide(host<F>(b)), hide(host<F>(c)))); },
                [&](unsigned mode, uint32_t& flags) { return multiply_add<F>(a, b, c, mode, flags); });
    }
}

template <typename I, typename F>
void to_integers() {
    std::mt19937_64 random(static_cast<uint64_t>(g_test_rand_int()));
    using Host = typename F::Host;
    for (int i = 0; i < kRounds / 2 && !g_test_failed(); ++i) {
        const Bits<F> a = random_number<F>(random);
        for (unsigned mode = 0; mode < 5; ++mode) {
            std::feclearexcept(FE_ALL_EXCEPT);
            Host whole;
            if (mode < 4) {
                std::fesetround(kModes[mode]);
                whole = std::nearbyint(hide(host<F>(a)));
                std::fesetround(FE_TONEAREST);
            } else {
                whole = std::round(host<F>(a));
            }
            // Both ends as the format has them: the lower one exactly, the upper one plus one.
            const Host low = static_cast<Host>(std::numeric_limits<I>::min());
            const Host end = std::ldexp(Host{1}, std::numeric_limits<I>::digits);
            I expected;
            uint32_t expected_flags = 0;
            if (whole != whole || whole >= end) {
                expected = std::numeric_limits<I>::max();
                expected_flags = kInvalid;
            } else if (whole < low) {
                expected = std::numeric_limits<I>::min();
                expected_flags = kInvalid;
            } else {
                expected = static_cast<I>(whole);
                expected_flags = whole == host<F>(a) ? 0u : kInexact;
            }
            uint32_t flags = 0;
            const I result = to_integer<I, F>(a, mode, flags);
            if (result != expected || flags != expected_flags) {
                g_test_message("%llx mode %u: %llx flags %x, expected %llx flags %x",
                               static_cast<unsigned long long>(a), mode, static_cast<unsigned long long>(result), flags,
                               static_cast<unsigned long long>(expected), expected_flags);
                g_test_fail();
                return;
            }
        }
    }
}

template <typename F, typename I>
void from_integers() {
    std::mt19937_64 random(static_cast<uint64_t>(g_test_rand_int()));
    for (int i = 0; i < kRounds / 2 && !g_test_failed(); ++i) {
        const I value = static_cast<I>(random() >> random() % 64);
        compare<F, Bits<F>>(
            "from integer", {static_cast<Bits<F>>(value)},
            [&] { return canonical<F>(static_cast<typename F::Host>(hide(value))); },
            [&](unsigned mode, uint32_t& flags) { return from_integer<F, I>(value, mode, flags); });
    }
}

void between_formats() {
    std::mt19937_64 random(static_cast<uint64_t>(g_test_rand_int()));
    for (int i = 0; i < kRounds && !g_test_failed(); ++i) {
        const uint64_t a =
            random() % 2 ? random_number<Double>(random)
                         : std::bit_cast<uint64_t>(static_cast<double>(host<Single>(random_number<Single>(random)))) +
                               random() % 5 - 2;
        compare<Double, uint32_t>(
            "narrow", {a}, [&] { return canonical<Single>(static_cast<float>(hide(host<Double>(a)))); },
            [&](unsigned mode, uint32_t& flags) { return narrow(a, mode, flags); });
        const uint32_t b = random_number<Single>(random);
        compare<Single, uint64_t>(
            "widen", {b}, [&] { return canonical<Double>(static_cast<double>(hide(host<Single>(b)))); },
            [&](unsigned, uint32_t& flags) { return widen(b, flags); });
    }
}

template <typename F>
void comparisons() {
    std::mt19937_64 random(static_cast<uint64_t>(g_test_rand_int()));
    for (int i = 0; i < kRounds && !g_test_failed(); ++i) {
        const Bits<F> a = random_number<F>(random), b = random() % 4 ? random_number<F>(random) : a;
        compare<F, bool>(
            "equal", {a, b}, [&] { return hide(host<F>(a)) == hide(host<F>(b)); },
            [&](unsigned, uint32_t& flags) { return equal<F>(a, b, flags); });
        // The compiler takes the host's comparison that no quiet NaN is invalid to.
        const auto signal = [&] {
            if (std::isnan(host<F>(a)) || std::isnan(host<F>(b)))
                std::feraiseexcept(FE_INVALID);
        };
        compare<F, bool>(
            "less", {a, b}, [&] { return signal(), hide(host<F>(a)) < hide(host<F>(b)); },
            [&](unsigned, uint32_t& flags) { return less<F>(a, b, flags); });
        compare<F, bool>(
            "less or equal", {a, b}, [&] { return signal(), hide(host<F>(a)) <= hide(host<F>(b)); },
            [&](unsigned, uint32_t& flags) { return less_or_equal<F>(a, b, flags); });
    }
}

// Ties go away from zero, which no mode of the host does: a single as the host's double rounds it by hand.
void nearest_away() {
    uint32_t flags = 0;
    const auto of = [](double value) { return std::bit_cast<uint64_t>(value); };
    const float one = 1.0f, next = std::nextafter(one, 2.0f);
    const double between = (static_cast<double>(one) + next) / 2;
    g_assert_cmphex(narrow(of(between), kNearestAway, flags), ==, std::bit_cast<uint32_t>(next));
    g_assert_cmphex(narrow(of(between), kNearestEven, flags), ==, std::bit_cast<uint32_t>(one));
    g_assert_cmphex(narrow(of(-between), kNearestAway, flags), ==, std::bit_cast<uint32_t>(-next));
    g_assert_cmphex(narrow(of(std::nextafter(between, 0.0)), kNearestAway, flags), ==, std::bit_cast<uint32_t>(one));
    g_assert_cmphex(flags, ==, kInexact);
    g_assert_cmphex((multiply<Double>(of(std::numeric_limits<double>::max()), of(2.0), kNearestAway, flags)), ==,
                    Format<Double>::kInfinity);
    g_assert_cmphex(flags, ==, kInexact | kOverflow);
    g_assert_cmphex((divide<Double>(1, of(2.0), kNearestAway, flags)), ==, 1);
    g_assert_cmphex(flags, ==, kInexact | kOverflow | kUnderflow);
}

void minimum_and_maximum() {
    uint32_t flags = 0;
    constexpr uint32_t kMinusZero = 0x80000000, kOne = 0x3f800000, kNan = 0x7fc00000, kSignalling = 0x7f800001;
    g_assert_cmphex((minimum<Single>(0, kMinusZero, flags)), ==, kMinusZero);
    g_assert_cmphex((minimum<Single>(kMinusZero, 0, flags)), ==, kMinusZero);
    g_assert_cmphex((maximum<Single>(kMinusZero, 0, flags)), ==, 0);
    g_assert_cmphex((minimum<Single>(0x7fffffff, kOne, flags)), ==, kOne);
    g_assert_cmphex((maximum<Single>(0xffffffff, 0xffc12345, flags)), ==, kNan);
    g_assert_cmphex(flags, ==, 0);
    g_assert_cmphex((maximum<Single>(kOne, kSignalling, flags)), ==, kOne);
    g_assert_cmphex(flags, ==, kInvalid);
}

void infinity_times_zero_is_invalid() {
    uint32_t flags = 0;
    g_assert_cmphex((multiply_add<Double>(Format<Double>::kInfinity, 0, Format<Double>::kNan, 0, flags)), ==,
                    Format<Double>::kNan);
    g_assert_cmphex(flags, ==, kInvalid);
}

void classes() {
    const uint32_t of_class[] = {0xff800000, 0xbf800000, 0x80000001, 0x80000000, 0,
                                 1,          0x3f800000, 0x7f800000, 0x7f800001, 0x7fc00000};
    for (unsigned i = 0; i < std::size(of_class); ++i)
        g_assert_cmphex(classify<Single>(of_class[i]), ==, 1u << i);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/soft-float/single/arithmetic-is-the-host's", arithmetic<Single>);
    g_test_add_func("/soft-float/double/arithmetic-is-the-host's", arithmetic<Double>);
    g_test_add_func("/soft-float/single/comparisons-are-the-host's", comparisons<Single>);
    g_test_add_func("/soft-float/double/comparisons-are-the-host's", comparisons<Double>);
    g_test_add_func("/soft-float/single/to-int32", to_integers<int32_t, Single>);
    g_test_add_func("/soft-float/single/to-uint32", to_integers<uint32_t, Single>);
    g_test_add_func("/soft-float/single/to-int64", to_integers<int64_t, Single>);
    g_test_add_func("/soft-float/single/to-uint64", to_integers<uint64_t, Single>);
    g_test_add_func("/soft-float/double/to-int32", to_integers<int32_t, Double>);
    g_test_add_func("/soft-float/double/to-uint32", to_integers<uint32_t, Double>);
    g_test_add_func("/soft-float/double/to-int64", to_integers<int64_t, Double>);
    g_test_add_func("/soft-float/double/to-uint64", to_integers<uint64_t, Double>);
    g_test_add_func("/soft-float/single/from-int32", from_integers<Single, int32_t>);
    g_test_add_func("/soft-float/single/from-int64", from_integers<Single, int64_t>);
    g_test_add_func("/soft-float/double/from-int32", from_integers<Double, int32_t>);
    g_test_add_func("/soft-float/double/from-int64", from_integers<Double, int64_t>);
    g_test_add_func("/soft-float/between-the-formats", between_formats);
    g_test_add_func("/soft-float/ties-away-from-zero", nearest_away);
    g_test_add_func("/soft-float/minimum-and-maximum", minimum_and_maximum);
    g_test_add_func("/soft-float/infinity-times-zero-is-invalid-also-plus-nan", infinity_times_zero_is_invalid);
    g_test_add_func("/soft-float/classes", classes);
    return g_test_run();
}
