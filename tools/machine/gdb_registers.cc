#include "tools/machine/gdb_registers.h"

#include <fmt/core.h>

#include <iterator>

namespace ashlar {

namespace {

constexpr unsigned kFirstFloat = 33, kFirstCsr = 65, kPrivilege = kFirstCsr + 4096;

constexpr const char* kIntegerNames[] = {"zero", "ra", "sp", "gp", "tp",  "t0",  "t1", "t2", "fp", "s1", "a0",
                                         "a1",   "a2", "a3", "a4", "a5",  "a6",  "a7", "s2", "s3", "s4", "s5",
                                         "s6",   "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6", "pc"};
constexpr const char* kFloatNames[] = {"ft0", "ft1", "ft2", "ft3", "ft4",  "ft5",  "ft6", "ft7", "fs0",  "fs1", "fa0",
                                       "fa1", "fa2", "fa3", "fa4", "fa5",  "fa6",  "fa7", "fs2", "fs3",  "fs4", "fs5",
                                       "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11"};
struct NamedCsr {
    const char* name;
    unsigned number;
};
constexpr NamedCsr kFloatCsrs[] = {{"fflags", 0x001}, {"frm", 0x002}, {"fcsr", 0x003}};
constexpr NamedCsr kCsrs[] = {
    {"sstatus", 0x100},       {"sie", 0x104},      {"stvec", 0x105},      {"scounteren", 0x106}, {"senvcfg", 0x10a},
    {"sscratch", 0x140},      {"sepc", 0x141},     {"scause", 0x142},     {"stval", 0x143},      {"sip", 0x144},
    {"stimecmp", 0x14d},      {"satp", 0x180},     {"mstatus", 0x300},    {"misa", 0x301},       {"medeleg", 0x302},
    {"mideleg", 0x303},       {"mie", 0x304},      {"mtvec", 0x305},      {"mcounteren", 0x306}, {"menvcfg", 0x30a},
    {"mcountinhibit", 0x320}, {"mscratch", 0x340}, {"mepc", 0x341},       {"mcause", 0x342},     {"mtval", 0x343},
    {"mip", 0x344},           {"pmpcfg0", 0x3a0},  {"pmpcfg2", 0x3a2},    {"mcycle", 0xb00},     {"minstret", 0xb02},
    {"cycle", 0xc00},         {"time", 0xc01},     {"instret", 0xc02},    {"mvendorid", 0xf11},  {"marchid", 0xf12},
    {"mimpid", 0xf13},        {"mhartid", 0xf14},  {"mconfigptr", 0xf15},
};
struct NumberedCsrs {
    const char* name;
    unsigned first_csr, first, last;
};
constexpr NumberedCsrs kNumberedCsrs[] = {
    {"pmpaddr", 0x3b0, 0, 15},
    {"mhpmevent", 0x323, 3, 31},
    {"mhpmcounter", 0xb03, 3, 31},
    {"hpmcounter", 0xc03, 3, 31},
};

std::string line(const std::string& name, unsigned number, unsigned bits = 64, const char* type = "int") {
    return fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\"/>\n", name, bits, type, number);
}

std::string make_description() {
    std::string text =
        "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n"
        "<architecture>riscv:rv64</architecture>\n<feature name=\"org.gnu.gdb.riscv.cpu\">\n";
    for (unsigned i = 0; i <= kGdbPc; ++i)
        text += line(kIntegerNames[i], i, 64,
                     i == kGdbPc                            ? "code_ptr"
                     : i == 2 || i == 3 || i == 4 || i == 8 ? "data_ptr"
                                                            : "int");
    text +=
        "</feature>\n<feature name=\"org.gnu.gdb.riscv.fpu\">\n<union id=\"riscv_double\">\n"
        "<field name=\"float\" type=\"ieee_single\"/>\n<field name=\"double\" type=\"ieee_double\"/>\n</union>\n";
    for (unsigned i = 0; i < std::size(kFloatNames); ++i)
        text += line(kFloatNames[i], kFirstFloat + i, 64, "riscv_double");
    for (const NamedCsr& csr : kFloatCsrs)
        text += line(csr.name, kFirstCsr + csr.number, 32);
    text += "</feature>\n<feature name=\"org.gnu.gdb.riscv.virtual\">\n" + line("priv", kPrivilege) +
            "</feature>\n<feature name=\"org.gnu.gdb.riscv.csr\">\n";
    for (const NamedCsr& csr : kCsrs)
        text += line(csr.name, kFirstCsr + csr.number);
    for (const NumberedCsrs& csrs : kNumberedCsrs)
        for (unsigned i = csrs.first; i <= csrs.last; ++i)
            text += line(fmt::format("{}{}", csrs.name, i), kFirstCsr + csrs.first_csr + i - csrs.first);
    return text + "</feature>\n</target>\n";
}

}  // namespace

const std::string& gdb_target_description() {
    static const std::string description = make_description();
    return description;
}

size_t gdb_register_bytes(unsigned number) {
    return number >= kFirstCsr + 1 && number <= kFirstCsr + 3 ? 4 : 8;
}

}  // namespace ashlar
