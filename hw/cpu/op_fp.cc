#include "hw/cpu/op_access.h"
#include "hw/cpu/soft_float.h"

#include <cmath>
#include <type_traits>

// Where the host's arithmetic is taken instead of soft float: rounding to nearest even, with the inexact flag set
// already, numbers in, and a normal number above the smallest out. Then no other flag is raised, and both are the
// correctly rounded result.

namespace ashlar {

namespace {

using fp::Double;
using fp::Single;

template <typename F>
constexpr bool kBoxed = std::is_same_v<F, Single>;

// A single that is not boxed is read as the canonical NaN.
template <typename F>
fp::Bits<F> get(const HartState* s, unsigned number) {
    const uint64_t raw = s->f[number];
    if constexpr (kBoxed<F>)
        return raw >> 32 == 0xffffffff ? static_cast<uint32_t>(raw) : fp::Format<Single>::kNan;
    else
        return raw;
}

template <typename F>
void set(HartState* s, const Slot* i, fp::Bits<F> value) {
    s->f[i->a] = kBoxed<F> ? 0xffffffff'00000000 | value : value;
}

template <typename F>
fp::Bits<F> rs1(const HartState* s, const Slot* i) {
    return get<F>(s, i->b);
}
template <typename F>
fp::Bits<F> rs2(const HartState* s, const Slot* i) {
    return get<F>(s, i->imm & 31);
}
template <typename F>
fp::Bits<F> rs3(const HartState* s, const Slot* i) {
    return get<F>(s, i->imm >> 16 & 31);
}

constexpr unsigned kDynamic = 7;

unsigned rounding(const HartState* s, const Slot* i) {
    const unsigned mode = i->imm >> 8 & 7;
    return mode == kDynamic ? s->frm : mode;
}

// The modes of frm from 5 on are reserved.
bool is_valid(unsigned mode) {
    return mode <= fp::kNearestAway;
}

template <typename F>
typename F::Host host(fp::Bits<F> bits) {
    return std::bit_cast<typename F::Host>(bits);
}

// Whether `result`, by the host, is exactly what soft float would say.
template <typename F>
bool host_is_right(const HartState* s, unsigned mode, typename F::Host result) {
    const auto magnitude = std::bit_cast<fp::Bits<F>>(result) & ~fp::Format<F>::kSign;
    constexpr auto kSmallest = fp::Bits<F>{1} << fp::Format<F>::kFraction;
    return mode == fp::kNearestEven && s->fflags & fp::kInexact && magnitude > kSmallest &&
           magnitude < fp::Format<F>::kInfinity;
}

template <typename F, typename Host, typename Soft>
[[gnu::always_inline]] inline void compute(HartState* s, const Slot* i, unsigned mode, Host on_host, Soft soft) {
    const typename F::Host result = on_host();
    set<F>(s, i, host_is_right<F>(s, mode, result) ? std::bit_cast<fp::Bits<F>>(result) : soft());
}

template <typename F>
fp::Bits<F> negated(fp::Bits<F> a) {
    return a ^ fp::Format<F>::kSign;
}

template <typename F>
void do_add(HartState* s, const Slot* i, unsigned mode, bool subtract) {
    const auto a = rs1<F>(s, i), b = subtract ? negated<F>(rs2<F>(s, i)) : rs2<F>(s, i);
    compute<F>(s, i, mode, [&] { return host<F>(a) + host<F>(b); }, [&] { return fp::add<F>(a, b, mode, s->fflags); });
}

template <typename F>
void do_multiply(HartState* s, const Slot* i, unsigned mode) {
    const auto a = rs1<F>(s, i), b = rs2<F>(s, i);
    compute<F>(
        s, i, mode, [&] { return host<F>(a) * host<F>(b); }, [&] { return fp::multiply<F>(a, b, mode, s->fflags); });
}

template <typename F>
void do_divide(HartState* s, const Slot* i, unsigned mode) {
    const auto a = rs1<F>(s, i), b = rs2<F>(s, i);
    compute<F>(
        s, i, mode, [&] { return host<F>(a) / host<F>(b); }, [&] { return fp::divide<F>(a, b, mode, s->fflags); });
}

template <typename F>
void do_square_root(HartState* s, const Slot* i, unsigned mode) {
    const auto a = rs1<F>(s, i);
    compute<F>(
        s, i, mode, [&] { return std::sqrt(host<F>(a)); }, [&] { return fp::square_root<F>(a, mode, s->fflags); });
}

template <typename F>
void do_multiply_add(HartState* s, const Slot* i, unsigned mode, bool negate_product, bool negate_addend) {
    const auto a = negate_product ? negated<F>(rs1<F>(s, i)) : rs1<F>(s, i), b = rs2<F>(s, i);
    const auto c = negate_addend ? negated<F>(rs3<F>(s, i)) : rs3<F>(s, i);
    compute<F>(
        s, i, mode, [&] { return std::fma(host<F>(a), host<F>(b), host<F>(c)); },
        [&] { return fp::multiply_add<F>(a, b, c, mode, s->fflags); });
}

template <typename F>
void do_sign(HartState* s, const Slot* i, fp::Bits<F> sign) {
    set<F>(s, i, (rs1<F>(s, i) & ~fp::Format<F>::kSign) | (sign & fp::Format<F>::kSign));
}

uint64_t extended(int64_t value) {
    return static_cast<uint64_t>(value);
}

template <typename I, typename F>
void do_to_integer(HartState* s, const Slot* i, unsigned mode) {
    const I value = fp::to_integer<I, F>(rs1<F>(s, i), mode, s->fflags);
    // Results of 32 bits are sign-extended, unsigned ones, too.
    if constexpr (sizeof(I) == 4)
        s->x[i->a] = extended(static_cast<int32_t>(value));
    else
        s->x[i->a] = static_cast<uint64_t>(value);
}

template <typename F, typename I>
void do_from_integer(HartState* s, const Slot* i, unsigned mode) {
    set<F>(s, i, fp::from_integer<F, I>(static_cast<I>(s->x[i->b]), mode, s->fflags));
}

}  // namespace

LOAD(flw, uint32_t, ToFloat)
LOAD(fld, uint64_t, ToFloat)
STORE(fsw, uint32_t, ToFloat)
STORE(fsd, uint64_t, ToFloat)

#define EXACT(name, action) \
    OPERATION(name) {       \
        action;             \
        NEXT();             \
    }

#define ROUNDED(name, action)                 \
    OPERATION(name) {                         \
        const unsigned mode = rounding(s, i); \
        if (!is_valid(mode))                  \
            CONTINUE(op_not_legal);           \
        action;                               \
        NEXT();                               \
    }

EXACT(fmv_x_w, s->x[i->a] = extended(static_cast<int32_t>(s->f[i->b])))
EXACT(fmv_x_d, s->x[i->a] = s->f[i->b])
EXACT(fmv_w_x, set<Single>(s, i, static_cast<uint32_t>(s->x[i->b])))
EXACT(fmv_d_x, set<Double>(s, i, s->x[i->b]))
ROUNDED(fcvt_s_d, set<Single>(s, i, fp::narrow(rs1<Double>(s, i), mode, s->fflags)))
ROUNDED(fcvt_d_s, set<Double>(s, i, fp::widen(rs1<Single>(s, i), s->fflags)))

#define OF_FORMAT(f, F)                                                                  \
    ROUNDED(fadd_##f, do_add<F>(s, i, mode, false))                                      \
    ROUNDED(fsub_##f, do_add<F>(s, i, mode, true))                                       \
    ROUNDED(fmul_##f, do_multiply<F>(s, i, mode))                                        \
    ROUNDED(fdiv_##f, do_divide<F>(s, i, mode))                                          \
    ROUNDED(fsqrt_##f, do_square_root<F>(s, i, mode))                                    \
    ROUNDED(fmadd_##f, do_multiply_add<F>(s, i, mode, false, false))                     \
    ROUNDED(fmsub_##f, do_multiply_add<F>(s, i, mode, false, true))                      \
    ROUNDED(fnmsub_##f, do_multiply_add<F>(s, i, mode, true, false))                     \
    ROUNDED(fnmadd_##f, do_multiply_add<F>(s, i, mode, true, true))                      \
    EXACT(fsgnj_##f, do_sign<F>(s, i, rs2<F>(s, i)))                                     \
    EXACT(fsgnjn_##f, do_sign<F>(s, i, negated<F>(rs2<F>(s, i))))                        \
    EXACT(fsgnjx_##f, do_sign<F>(s, i, rs1<F>(s, i) ^ rs2<F>(s, i)))                     \
    EXACT(fmin_##f, set<F>(s, i, fp::minimum<F>(rs1<F>(s, i), rs2<F>(s, i), s->fflags))) \
    EXACT(fmax_##f, set<F>(s, i, fp::maximum<F>(rs1<F>(s, i), rs2<F>(s, i), s->fflags))) \
    EXACT(feq_##f, RD = fp::equal<F>(rs1<F>(s, i), rs2<F>(s, i), s->fflags))             \
    EXACT(flt_##f, RD = fp::less<F>(rs1<F>(s, i), rs2<F>(s, i), s->fflags))              \
    EXACT(fle_##f, RD = fp::less_or_equal<F>(rs1<F>(s, i), rs2<F>(s, i), s->fflags))     \
    EXACT(fclass_##f, RD = fp::classify<F>(rs1<F>(s, i)))                                \
    ROUNDED(fcvt_w_##f, (do_to_integer<int32_t, F>(s, i, mode)))                         \
    ROUNDED(fcvt_wu_##f, (do_to_integer<uint32_t, F>(s, i, mode)))                       \
    ROUNDED(fcvt_l_##f, (do_to_integer<int64_t, F>(s, i, mode)))                         \
    ROUNDED(fcvt_lu_##f, (do_to_integer<uint64_t, F>(s, i, mode)))                       \
    ROUNDED(fcvt_##f##_w, (do_from_integer<F, int32_t>(s, i, mode)))                     \
    ROUNDED(fcvt_##f##_wu, (do_from_integer<F, uint32_t>(s, i, mode)))                   \
    ROUNDED(fcvt_##f##_l, (do_from_integer<F, int64_t>(s, i, mode)))                     \
    ROUNDED(fcvt_##f##_lu, (do_from_integer<F, uint64_t>(s, i, mode)))

OF_FORMAT(s, Single)
OF_FORMAT(d, Double)

#define NARROW(x)                                            \
    template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS); \
    template HANDLER_CALL void op_##x<1>(HANDLER_ARGUMENTS);
#define WIDE(x) template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS);
#define OPS_FP_READ
#define OPS_FP_WRITE
#define OPS_FP_READ_WIDE
#define OPS_FP_WRITE_WIDE
#include "hw/cpu/ops.def"
#undef OPS_FP_READ
#undef OPS_FP_WRITE
#undef OPS_FP_READ_WIDE
#undef OPS_FP_WRITE_WIDE

}  // namespace ashlar
