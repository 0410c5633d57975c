// HartState: what a hart consists of. Its parts are in files of their own:
//
//   hart.cc           running: chunks of instructions between looks at interrupts, clock and kicks; the debugger
//   dispatch.cc, op_*.cc   what instructions do
//   mmu.cc            addresses: page tables, PMP, the way around the TLBs
//   fetch.cc          from an address to the slot that is run there
//   csr.cc            control and status registers
//   trap.cc           exceptions, interrupts, the return from them, and what depends on the privilege
#pragma once

#include "hw/bus.h"
#include "hw/cpu/code_page.h"
#include "hw/cpu/pmp.h"
#include "hw/cpu/privilege.h"
#include "hw/cpu/slot.h"
#include "hw/cpu/tlb.h"
#include "hw/hart.h"
#include "hw/hart_features.h"
#include "hw/machine_clock.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <vector>

namespace ashlar {

struct HandlerTable;

struct HartState {
    HartState(Bus& the_bus, MachineClock& the_clock, unsigned the_id, const HartFeatures& what)
        : bus(the_bus), clock(the_clock), id(the_id), features(what) {}

    Bus& bus;
    MachineClock& clock;
    const unsigned id;
    const HartFeatures features;

    // --- What instructions read and write all the time.
    std::array<uint64_t, 33> x{};  // the last: kSink
    uint64_t page_address = 0;     // the virtual address of page_slots[0]
    const Slot* page_slots = nullptr;
    const Slot* next = nullptr;     // where dispatch() goes on, if handlers return to it
    uint64_t page_bytes = 0;        // kPageBytes; 0 while the scratch slots run
    FetchTlb* fetch_tlb = nullptr;  // of the privilege
    bool leave = false;             // an access asks for a look at interrupts before the next instruction
    std::array<uint64_t, 32> f{};
    uint32_t fflags = 0, frm = 0;

    // --- Between instructions. While they run, pc and left are up to date only where somebody wants them.
    uint64_t pc = 0;
    int64_t left = 0;      // instructions of the chunk
    int64_t chunk = 0;     // how many it had at first
    uint64_t retired = 0;  // before this chunk
    Privilege privilege = Privilege::Machine;
    bool waiting = false;  // in WFI
    bool stopped_at_breakpoint = false;
    const CodePage* page = nullptr;  // nullptr: the scratch slots
    const Tlb* tlb = nullptr;        // of loads and stores in this privilege
    const HandlerTable* handlers = nullptr;

    uint64_t retired_now() const { return retired + static_cast<uint64_t>(chunk - left); }
    uint64_t pc_of(const Slot* slot) const {
        return page_address +
               static_cast<uint64_t>(reinterpret_cast<const char*>(slot) - reinterpret_cast<const char*>(page_slots)) /
                   (sizeof(Slot) / 2);
    }

    // `instructions` of them at most, or with `single` exactly one; the first way to stop that there was.
    std::optional<Hart::Stop> run_chunk(uint64_t instructions, bool single, uint64_t& ran);

    // --- CSRs, as they are read unless said otherwise.
    uint64_t mstatus = mstatus::kUxl64 | mstatus::kSxl64;  // without SD
    uint64_t mtvec = 0, mepc = 0, mcause = 0, mtval = 0, mscratch = 0;
    uint64_t stvec = 0, sepc = 0, scause = 0, stval = 0, sscratch = 0;
    uint64_t medeleg = 0, mideleg = 0, mie = 0;
    uint64_t mip = 0;  // the bits that software set; see pending()
    uint64_t satp = 0;
    uint64_t menvcfg = 0, senvcfg = 0;
    uint64_t stimecmp = std::numeric_limits<uint64_t>::max();
    uint32_t mcounteren = 0, scounteren = 0, mcountinhibit = 0;
    // The counters are these plus retired_now(), or these alone while they are inhibited.
    uint64_t mcycle = 0, minstret = 0;
    Pmp pmp;

    // --- Interrupts.
    std::atomic<uint64_t> lines{0};  // the levels of the inputs, as in mip
    std::atomic<bool> kicked{false};
    std::function<void()> waker;
    bool timer_due = false;        // stimecmp has been reached, when last looked
    uint64_t timer_looked_at = 0;  // retired, then

    // mip as a whole.
    uint64_t pending() const;
    // Compares stimecmp with the clock.
    void look_at_timer();
    bool stimecmp_on() const { return menvcfg & kMenvcfgStce; }

    // --- Reservation of LR.
    bool reserved = false;
    uint64_t reserved_address = 0, reserved_value = 0;  // physical

    // --- Addresses.
    enum Context : unsigned { kUser, kSupervisor, kSupervisorSum, kMachine, kContexts };
    std::array<Tlb, kContexts> tlbs;
    std::array<FetchTlb, 3> fetch_tlbs;  // user, supervisor, machine
    // The virtual addresses that large pages in the TLBs span: none if first > last.
    uint64_t large_first = std::numeric_limits<uint64_t>::max(), large_last = 0;
    CodeCache code;
    Fault fault{};  // why the last of the functions below that returns false did

    struct Physical {
        uint64_t address;
        uint64_t page_bytes = kPageBytes;  // of the page that maps it, at least 4 KiB
    };
    // By the page tables as `privilege` sees them; PMP applies to the tables only.
    [[nodiscard]] bool translate(uint64_t address, Access access, Privilege privilege, Physical& physical);
    // Whether PMP lets it; if not there is a fault, which names `address`.
    [[nodiscard]] bool check_pmp(uint64_t address, uint64_t physical, unsigned size, Access access,
                                 Privilege privilege);
    Privilege data_privilege() const;
    [[nodiscard]] bool load(uint64_t address, unsigned size, uint64_t& value);
    [[nodiscard]] bool store(uint64_t address, unsigned size, uint64_t value);
    // The memory of an atomic access, which for anything but LR is one that also writes.
    [[nodiscard]] bool atomic(uint64_t address, unsigned size, Access access, uint8_t*& memory, uint64_t& physical);
    // For the debugger: whoever may access it, and without a trace.
    [[nodiscard]] bool look_up(uint64_t address, uint64_t& physical);
    void remember_large(uint64_t address, uint64_t page_bytes);
    void flush_translations();
    void flush_all();
    void fence_vma(std::optional<uint64_t> address);

    // --- Fetching.
    // Where the instruction at pc is decoded; page_* are set. nullptr: a fault, or a breakpoint.
    const Slot* locate();
    // The same, and after this one instruction Op::scratch_end.
    const Slot* locate_single();
    const Slot* decode_at(const Slot* slot);
    uint32_t instruction_bits(const Slot* slot) const;
    uint16_t bits_at(const Slot* slot) const;
    std::array<Slot, 4> scratch;
    uint32_t scratch_bits = 0;
    std::set<uint64_t> breakpoints;

    // --- Watching data for the debugger. Pages with something watched are in no TLB.
    std::vector<Hart::Watched> watchpoints;
    std::optional<Hart::Watched> watch_hit;
    bool watch_pending = false;  // run() is to stop for it
    bool watches_page_of(uint64_t address) const;
    // After an access that was done: whether the hart is to stop for it.
    void look_for_watchpoints(uint64_t address, unsigned size, Hart::Watch what);
    void note_access(uint64_t address, unsigned size, Hart::Watch what) {
        if (!watchpoints.empty()) [[unlikely]]
            look_for_watchpoints(address, size, what);
    }

    // --- CSRs.
    enum class CsrResult { Done, Leave, Illegal };  // Leave: pc may be run under other rules now
    // The instruction's, with the checks of its privilege: `write` changes it to (old & keep) | set.
    CsrResult access_csr(unsigned number, bool write, uint64_t keep, uint64_t set, uint64_t& old);
    // Without: false if there is no such CSR.
    bool read_csr(unsigned number, uint64_t& value) const;
    CsrResult write_csr(unsigned number, uint64_t value);
    bool csr_allowed(unsigned number, bool write) const;
    void write_mstatus(uint64_t value, uint64_t mask);

    // --- Traps.
    void take(uint64_t cause, uint64_t value, bool is_interrupt);
    void take(const Fault& fault_of) { take(static_cast<uint64_t>(fault_of.cause), fault_of.value, false); }
    // Whether there was one.
    bool take_interrupt();
    [[nodiscard]] bool return_from_machine();
    [[nodiscard]] bool return_from_supervisor();
    // After a change of the privilege, or of what it may do.
    void update_context();
    void power_on(uint64_t start);
};

// Runs from `slot` until something asks to leave: pc and left say where that was.
void dispatch(HartState& state, const Slot* slot);
// The operations, by what mstatus.FS says.
const HandlerTable& handlers_for(uint64_t status);

}  // namespace ashlar
