// hart-run IMAGE: runs a flat image at 0x80000000 on a hart with RAM, a UART to print with and the finisher, at the
// addresses of -M virt. The exit status is the image's; --stats prints what it took.

#include "hw/guest_ram.h"
#include "hw/hart.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

using namespace ashlar;

namespace {

constexpr uint64_t kRamBase = 0x80000000, kRamBytes = 128 << 20;
constexpr uint64_t kUart = 0x10000000, kFinisher = 0x100000;

struct Uart : MmioDevice {
    uint64_t read(uint64_t offset, unsigned) override { return offset == 5 ? 0x60 : 0; }
    void write(uint64_t offset, unsigned, uint64_t value) override {
        if (offset == 0)
            putchar(static_cast<int>(value & 0xff));
    }
};

struct Finisher : MmioDevice {
    explicit Finisher(std::optional<Hart>& the_hart) : hart(the_hart) {}
    uint64_t read(uint64_t, unsigned) override { return 0; }
    void write(uint64_t, unsigned, uint64_t value) override {
        if ((value & 0xffff) == 0x5555)
            status = 0;
        else if ((value & 0xffff) == 0x3333)
            status = static_cast<int>(value >> 16);
        else
            return;
        hart->kick();
    }
    std::optional<Hart>& hart;
    std::optional<int> status;
};

}  // namespace

int main(int argc, char** argv) {
    const bool stats = argc == 3 && std::string(argv[1]) == "--stats";
    if (argc != 2 + stats) {
        fprintf(stderr, "usage: hart-run [--stats] IMAGE\n");
        return 2;
    }
    std::ifstream file(argv[1 + stats], std::ios::binary);
    const std::vector<char> image{std::istreambuf_iterator<char>(file), {}};
    if (image.empty() || image.size() > kRamBytes) {
        fprintf(stderr, "hart-run: %s: no image\n", argv[1 + stats]);
        return 2;
    }
    auto ram = std::move(GuestRam::create(kRamBase, kRamBytes).value());
    memcpy(ram->all().data(), image.data(), image.size());

    Bus bus(*ram);
    MachineClock clock;
    std::optional<Hart> hart;
    Uart uart;
    Finisher finisher(hart);
    bus.map("uart", kUart, 256, uart);
    bus.map("finisher", kFinisher, 4096, finisher);
    hart.emplace(bus, clock, 0);
    hart->reset(kRamBase);
    clock.go_on();

    const auto begin = std::chrono::steady_clock::now();
    while (!finisher.status)
        if (hart->run(1'000'000'000) == Hart::Stop::Wfi) {
            fprintf(stderr, "hart-run: it waits, and nothing is going to come\n");
            return 2;
        }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    fflush(stdout);
    if (stats)
        fprintf(stderr, "%llu instructions in %.3f s: %.0f MIPS\n",
                static_cast<unsigned long long>(hart->instructions()), seconds.count(),
                static_cast<double>(hart->instructions()) / seconds.count() / 1e6);
    return *finisher.status;
}
