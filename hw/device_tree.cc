#include "hw/device_tree.h"

#include "hw/aclint.h"
#include "hw/machine_clock.h"
#include "hw/memory_map.h"
#include "hw/plic.h"
#include "hw/test_finisher.h"

extern "C" {
#include <libfdt.h>
}

#include <initializer_list>
#include <span>
#include <string_view>

namespace ashlar {

namespace {

// The numbers of the interrupts of a hart's own controller: those of mip.
enum HartInterrupt : uint32_t { kSoftwareM = 3, kTimerM = 7, kExternalS = 9, kExternalM = 11 };

// Of the 256 bytes that the UART's registers are said to take, as its binding has it, the device has the first eight.
constexpr uint64_t kUartBytes = 0x100;
constexpr uint64_t kUartClock = 3'686'400;

using namespace std::string_view_literals;

// Writes nodes in order; the first error stays and is told at the end.
class Writer {
public:
    explicit Writer(size_t bytes) : tree_(bytes) {
        note(fdt_create(tree_.data(), static_cast<int>(bytes)));
        note(fdt_finish_reservemap(tree_.data()));
    }

    void begin(std::string_view name) { note(fdt_begin_node(tree_.data(), std::string(name).c_str())); }
    void begin(std::string_view name, uint64_t address) { begin(fmt::format("{}@{:x}", name, address)); }
    void end() { note(fdt_end_node(tree_.data())); }

    void flag(const char* name) { note(fdt_property(tree_.data(), name, nullptr, 0)); }
    void bytes(const char* name, std::span<const uint8_t> value) {
        note(fdt_property(tree_.data(), name, value.data(), static_cast<int>(value.size())));
    }
    // With the NUL at its end, and those between several strings.
    void text(const char* name, std::string_view value) {
        const std::string copy(value);
        note(fdt_property(tree_.data(), name, copy.c_str(), static_cast<int>(copy.size() + 1)));
    }
    void cells(const char* name, std::span<const uint32_t> value) {
        std::vector<fdt32_t> big_endian;
        for (uint32_t cell : value)
            big_endian.push_back(cpu_to_fdt32(cell));
        note(fdt_property(tree_.data(), name, big_endian.data(), static_cast<int>(big_endian.size() * 4)));
    }
    void cells(const char* name, std::initializer_list<uint32_t> value) {
        cells(name, std::span(value.begin(), value.size()));
    }
    void number64(const char* name, uint64_t value) {
        cells(name, {static_cast<uint32_t>(value >> 32), static_cast<uint32_t>(value)});
    }
    void reg(uint64_t base, uint64_t size) {
        cells("reg", {static_cast<uint32_t>(base >> 32), static_cast<uint32_t>(base), static_cast<uint32_t>(size >> 32),
                      static_cast<uint32_t>(size)});
    }

    Result<std::vector<uint8_t>> finish() {
        note(fdt_finish(tree_.data()));
        if (error_ < 0)
            return fail("device tree: {}", fdt_strerror(error_));
        tree_.resize(fdt_totalsize(tree_.data()));
        return std::move(tree_);
    }

private:
    void note(int result) {
        if (result < 0 && error_ == 0)
            error_ = result;
    }

    std::vector<uint8_t> tree_;
    int error_ = 0;
};

// Those of the nodes that others refer to.
class Phandles {
public:
    explicit Phandles(unsigned harts) : harts_(harts) {}
    uint32_t cpu(unsigned hart) const { return 1 + hart; }
    uint32_t interrupts_of(unsigned hart) const { return 1 + harts_ + hart; }
    uint32_t plic() const { return 1 + 2 * harts_; }
    uint32_t finisher() const { return 2 + 2 * harts_; }

private:
    unsigned harts_;
};

void write_chosen(Writer& tree, const DeviceTreeSpec& spec) {
    tree.begin("chosen");
    tree.text("stdout-path", fmt::format("/soc/serial@{:x}", virt::kUart));
    if (!spec.bootargs.empty())
        tree.text("bootargs", spec.bootargs);
    if (spec.initrd) {
        tree.number64("linux,initrd-start", spec.initrd->start);
        tree.number64("linux,initrd-end", spec.initrd->end);
    }
    tree.bytes("rng-seed", spec.rng_seed);
    tree.end();
}

void write_cpus(Writer& tree, const DeviceTreeSpec& spec, const Phandles& phandles) {
    tree.begin("cpus");
    tree.cells("#address-cells", {1});
    tree.cells("#size-cells", {0});
    tree.cells("timebase-frequency", {static_cast<uint32_t>(MachineClock::kHertz)});
    for (unsigned hart = 0; hart < spec.harts; ++hart) {
        tree.begin("cpu", hart);
        tree.cells("phandle", {phandles.cpu(hart)});
        tree.text("device_type", "cpu");
        tree.cells("reg", {hart});
        tree.text("status", "okay");
        tree.text("compatible", "riscv");
        tree.text("riscv,isa", spec.isa);
        tree.text("mmu-type", fmt::format("riscv,{}", spec.mmu));
        tree.begin("interrupt-controller");
        tree.cells("#interrupt-cells", {1});
        tree.flag("interrupt-controller");
        tree.text("compatible", "riscv,cpu-intc");
        tree.cells("phandle", {phandles.interrupts_of(hart)});
        tree.end();
        tree.end();
    }
    tree.begin("cpu-map");
    tree.begin("cluster0");
    for (unsigned hart = 0; hart < spec.harts; ++hart) {
        tree.begin(fmt::format("core{}", hart));
        tree.cells("cpu", {phandles.cpu(hart)});
        tree.end();
    }
    tree.end();
    tree.end();
    tree.end();
}

// The device's interrupts go to two inputs of each hart.
void write_interrupts_extended(Writer& tree, const DeviceTreeSpec& spec, const Phandles& phandles, uint32_t first,
                               uint32_t second) {
    std::vector<uint32_t> cells;
    for (unsigned hart = 0; hart < spec.harts; ++hart)
        cells.insert(cells.end(), {phandles.interrupts_of(hart), first, phandles.interrupts_of(hart), second});
    tree.cells("interrupts-extended", cells);
}

void write_interrupt(Writer& tree, const Phandles& phandles, uint32_t source) {
    tree.cells("interrupts", {source});
    tree.cells("interrupt-parent", {phandles.plic()});
}

void write_soc(Writer& tree, const DeviceTreeSpec& spec, const Phandles& phandles) {
    tree.begin("soc");
    tree.cells("#address-cells", {2});
    tree.cells("#size-cells", {2});
    tree.text("compatible", "simple-bus");
    tree.flag("ranges");

    tree.begin("rtc", virt::kRtc);
    tree.text("compatible", "google,goldfish-rtc");
    tree.reg(virt::kRtc, 0x1000);
    write_interrupt(tree, phandles, virt::kRtcSource);
    tree.end();

    tree.begin("serial", virt::kUart);
    tree.text("compatible", "ns16550a");
    tree.reg(virt::kUart, kUartBytes);
    tree.cells("clock-frequency", {kUartClock});
    write_interrupt(tree, phandles, virt::kUartSource);
    tree.end();

    tree.begin("test", virt::kFinisher);
    tree.cells("phandle", {phandles.finisher()});
    tree.text("compatible", "sifive,test1\0sifive,test0\0syscon"sv);
    tree.reg(virt::kFinisher, TestFinisher::kBytes);
    tree.end();

    // The last slot first: a kernel looks in this order, and the first device is there.
    for (unsigned slot = virt::kVirtioSlots; slot-- > 0;) {
        const uint64_t address = virt::kVirtio + slot * virt::kVirtioStride;
        tree.begin("virtio_mmio", address);
        tree.text("compatible", "virtio,mmio");
        tree.reg(address, virt::kVirtioStride);
        write_interrupt(tree, phandles, virt::kVirtioSource + slot);
        tree.end();
    }

    tree.begin("plic", virt::kPlic);
    tree.cells("phandle", {phandles.plic()});
    tree.text("compatible", "sifive,plic-1.0.0\0riscv,plic0"sv);
    tree.reg(virt::kPlic, Plic::kBytes);
    tree.cells("riscv,ndev", {Plic::kSources});
    write_interrupts_extended(tree, spec, phandles, kExternalM, kExternalS);
    tree.flag("interrupt-controller");
    tree.cells("#interrupt-cells", {1});
    tree.cells("#address-cells", {0});
    tree.end();

    tree.begin("clint", virt::kAclint);
    tree.text("compatible", "sifive,clint0\0riscv,clint0"sv);
    tree.reg(virt::kAclint, Aclint::kBytes);
    write_interrupts_extended(tree, spec, phandles, kSoftwareM, kTimerM);
    tree.end();

    tree.end();
}

void write_syscon(Writer& tree, const Phandles& phandles, const char* name, uint32_t value) {
    tree.begin(name);
    tree.text("compatible", fmt::format("syscon-{}", name));
    tree.cells("regmap", {phandles.finisher()});
    tree.cells("offset", {0});
    tree.cells("value", {value});
    tree.end();
}

}  // namespace

Result<std::vector<uint8_t>> build_device_tree(const DeviceTreeSpec& spec) {
    const Phandles phandles(spec.harts);
    Writer tree(64 * 1024 + spec.bootargs.size());
    tree.begin("");
    tree.cells("#address-cells", {2});
    tree.cells("#size-cells", {2});
    tree.text("compatible", "riscv-virtio");
    tree.text("model", "riscv-virtio,ashlar");
    write_chosen(tree, spec);
    write_syscon(tree, phandles, "poweroff", TestFinisher::kPass);
    write_syscon(tree, phandles, "reboot", TestFinisher::kReset);
    tree.begin("memory", virt::kRam);
    tree.text("device_type", "memory");
    tree.reg(virt::kRam, spec.ram_bytes);
    tree.end();
    write_cpus(tree, spec, phandles);
    write_soc(tree, spec, phandles);
    tree.end();
    return tree.finish();
}

}  // namespace ashlar
