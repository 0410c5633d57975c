#include "hw/machine.h"

#include "hw/aclint.h"
#include "hw/boot_images.h"
#include "hw/bus.h"
#include "hw/device_tree.h"
#include "hw/goldfish_rtc.h"
#include "hw/hart.h"
#include "hw/hart_runner.h"
#include "hw/memory_map.h"
#include "hw/plic.h"
#include "hw/test_finisher.h"
#include "hw/uart.h"
#include "hw/virtio_device.h"
#include "hw/virtio_mmio.h"
#include "util/aio_context.h"
#include "util/co_mutex.h"

#include <sys/random.h>

#include <array>
#include <mutex>
#include <optional>

namespace ashlar {

namespace {

enum class Request : uint8_t { Finish, Reset, Debugger };

std::vector<std::unique_ptr<Hart>> make_harts(Bus& bus, MachineClock& clock, const MachineSpec& spec) {
    std::vector<std::unique_ptr<Hart>> harts;
    for (unsigned id = 0; id < spec.harts; ++id)
        harts.push_back(std::make_unique<Hart>(bus, clock, id, spec.features));
    return harts;
}

std::vector<Aclint::Lines> aclint_lines(const std::vector<std::unique_ptr<Hart>>& harts) {
    std::vector<Aclint::Lines> lines;
    for (const auto& hart : harts)
        lines.push_back({{*hart, Hart::kMachineSoftware}, {*hart, Hart::kMachineTimer}});
    return lines;
}

std::vector<InterruptLine> plic_contexts(const std::vector<std::unique_ptr<Hart>>& harts) {
    std::vector<InterruptLine> lines;
    for (const auto& hart : harts) {
        lines.emplace_back(*hart, Hart::kMachineExternal);
        lines.emplace_back(*hart, Hart::kSupervisorExternal);
    }
    return lines;
}

std::vector<Hart*> pointers(const std::vector<std::unique_ptr<Hart>>& harts) {
    std::vector<Hart*> result;
    for (const auto& hart : harts)
        result.push_back(hart.get());
    return result;
}

}  // namespace

struct Machine::Parts {
    Parts(AioContext& context, MachineSpec s, std::unique_ptr<GuestRam> memory, BootImages boot, Listener& l)
        : spec(std::move(s)),
          listener(l),
          ram(std::move(memory)),
          images(std::move(boot)),
          bus(*ram),
          harts(make_harts(bus, clock, spec)),
          aclint(clock, aclint_lines(harts)),
          plic(plic_contexts(harts)),
          finisher({[this](int status) { ask(Request::Finish, status); }, [this] { ask(Request::Reset, 0); }}),
          rtc(clock, InterruptLine(plic, virt::kRtcSource)),
          uart(uart_port, InterruptLine(plic, virt::kUartSource)),
          tell(
              context, [](void* parts) { static_cast<Parts*>(parts)->tell_listener(); }, this),
          runner(clock, pointers(harts), {&aclint, &rtc}, [this] { halted(); }) {
        for (const auto& hart : harts)
            hart->set_waker([this] { runner.wake(); });
        bus.map("finisher", virt::kFinisher, TestFinisher::kBytes, finisher, {.min = 2, .max = 4});
        bus.map("rtc", virt::kRtc, GoldfishRtc::kBytes, rtc, {.min = 4, .max = 4});
        bus.map("aclint", virt::kAclint, Aclint::kBytes, aclint, {.min = 4, .max = 8});
        bus.map("plic", virt::kPlic, Plic::kBytes, plic, {.min = 4, .max = 4});
        bus.map("uart", virt::kUart, Uart::kBytes, uart);
    }

    // In the harts' thread, within an access of the guest's.
    void ask(Request what, int status) {
        {
            std::lock_guard guard(request_lock);
            request = what;
            exit_status = status;
        }
        runner.halt();
    }

    // Any thread, when they have stopped of their own accord.
    void halted() {
        {
            std::lock_guard guard(request_lock);
            request = request.value_or(Request::Debugger);
        }
        tell.schedule();
    }

    std::optional<Request> take_request() {
        std::lock_guard guard(request_lock);
        return std::exchange(request, std::nullopt);
    }

    void tell_listener() {
        const std::optional<Request> what = take_request();
        if (what == Request::Finish)
            listener.guest_finished(exit_status);
        else if (what == Request::Reset)
            listener.guest_asked_for_reset();
        else if (what == Request::Debugger)
            listener.debugger_wanted(runner.current());
    }

    MemoryBounds bounds() const { return {ram->base(), ram->bytes()}; }
    Result<std::vector<uint8_t>> make_device_tree() const;
    void map_virtio();
    Result<void> power_on();
    Task<void> co_quiesce();
    void run();

    const MachineSpec spec;
    Listener& listener;
    const std::unique_ptr<GuestRam> ram;
    const BootImages images;
    std::vector<uint8_t> rom;
    Bus bus;
    MachineClock clock;
    const std::vector<std::unique_ptr<Hart>> harts;
    Aclint aclint;
    Plic plic;
    TestFinisher finisher;
    GoldfishRtc rtc;
    CharPort uart_port;
    Uart uart;
    std::vector<std::unique_ptr<VirtioDevice>> devices;
    std::array<VirtioDevice*, virt::kVirtioSlots> plugged = {};  // by slot
    std::vector<std::unique_ptr<VirtioMmio>> slots;

    State state = State::Stopped;
    CoMutex changing;  // what follows is changed by one at a time
    bool devices_stopped = false;
    std::vector<HartPlan> plan;

    // Left when the harts halt.
    std::mutex request_lock;
    std::optional<Request> request;
    int exit_status = 0;

    BottomHalf tell;
    HartRunner runner;  // ends first
};

Result<std::vector<uint8_t>> Machine::Parts::make_device_tree() const {
    DeviceTreeSpec tree{.ram_bytes = ram->bytes(),
                        .harts = spec.harts,
                        .isa = isa_string(spec.features),
                        .mmu = std::string(mmu_type(spec.features)),
                        .bootargs = spec.append};
    if (!images.initrd.segments.empty())
        tree.initrd = {images.initrd.entry, images.initrd.end};
    if (getrandom(tree.rng_seed.data(), tree.rng_seed.size(), 0) != static_cast<ssize_t>(tree.rng_seed.size()))
        return fail_errno(errno, "cannot get random bytes");
    return build_device_tree(tree);
}

void Machine::Parts::map_virtio() {
    for (unsigned slot = 0; slot < virt::kVirtioSlots; ++slot) {
        slots.push_back(std::make_unique<VirtioMmio>(plugged[slot], InterruptLine(plic, virt::kVirtioSource + slot),
                                                     spec.virtio_legacy));
        bus.map(fmt::format("virtio-mmio {}", slot), virt::kVirtio + slot * virt::kVirtioStride, VirtioMmio::kBytes,
                *slots.back(), {.min = 1, .max = 4});
    }
}

Result<void> Machine::Parts::power_on() {
    auto tree = make_device_tree();
    if (!tree)
        return std::unexpected(std::move(tree.error()));
    if (auto loaded = images.load(*ram, *tree); !loaded)
        return loaded;
    for (const auto& hart : harts)
        hart->reset(virt::kResetRom);
    return {};
}

// The memory stands still on return.
Task<void> Machine::Parts::co_quiesce() {
    runner.stop();
    clock.stop();
    if (std::exchange(devices_stopped, true))
        co_return;
    for (const auto& device : devices)
        co_await device->co_stop();
}

void Machine::Parts::run() {
    if (std::exchange(devices_stopped, false))
        for (const auto& device : devices)
            device->go_on();
    {
        // If they stopped for the debugger while somebody else was stopping them, nobody asks for that any more.
        std::lock_guard guard(request_lock);
        if (request == Request::Debugger)
            request.reset();
    }
    clock.go_on();
    runner.run(std::exchange(plan, {}));
}

Machine::Machine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Machine::~Machine() = default;

Result<std::unique_ptr<Machine>> Machine::create(AioContext& context, MachineSpec spec, Listener& listener) {
    constexpr uint64_t kPage = 4096;
    if (spec.ram_bytes == 0 || spec.ram_bytes % kPage)
        return fail("memory: {} bytes: not a multiple of {}", spec.ram_bytes, kPage);
    if (spec.harts == 0 || spec.harts > virt::kMaxHarts)
        return fail("Invalid SMP CPUs {}. The max CPUs supported by machine 'virt' is {}", spec.harts, virt::kMaxHarts);
    auto ram = GuestRam::create(virt::kRam, spec.ram_bytes);
    if (!ram)
        return std::unexpected(std::move(ram.error()));
    auto images = BootImages::read(spec, {virt::kRam, spec.ram_bytes});
    if (!images)
        return std::unexpected(std::move(images.error()));
    return std::unique_ptr<Machine>(
        new Machine(std::make_unique<Parts>(context, std::move(spec), std::move(*ram), std::move(*images), listener)));
}

GuestRam& Machine::ram() {
    return *parts_->ram;
}

CharPort& Machine::uart() {
    return parts_->uart_port;
}

const MachineSpec& Machine::spec() const {
    return parts_->spec;
}

Result<std::vector<uint8_t>> Machine::device_tree() const {
    return parts_->make_device_tree();
}

Result<void> Machine::add_virtio(std::unique_ptr<VirtioDevice>&& device, std::optional<unsigned> slot) {
    auto& plugged = parts_->plugged;
    if (!slot)
        for (unsigned candidate = virt::kVirtioSlots; candidate-- > 0 && !slot;)
            if (!plugged[candidate])
                slot = candidate;
    if (!slot)
        return fail("No 'virtio-bus' bus found for device '{}': all {} are taken", device->name(), virt::kVirtioSlots);
    if (plugged[*slot])
        return fail("Bus 'virtio-mmio-bus.{}' is full", *slot);
    plugged[*slot] = device.get();
    parts_->devices.push_back(std::move(device));
    return {};
}

Result<void> Machine::start() {
    Parts& parts = *parts_;
    auto tree = parts.make_device_tree();
    if (!tree)
        return std::unexpected(std::move(tree.error()));
    auto place = BootImages::place_device_tree(tree->size(), parts.bounds());
    if (!place)
        return std::unexpected(std::move(place.error()));
    parts.rom = parts.images.reset_rom(*place);
    parts.bus.map_rom("reset", virt::kResetRom, parts.rom);
    parts.map_virtio();
    return parts.power_on();
}

Machine::State Machine::state() const {
    return parts_->state;
}

Task<void> Machine::co_go_on() {
    CoMutex::Guard guard = co_await parts_->changing.co_lock();
    if (parts_->state == State::Running)
        co_return;
    parts_->state = State::Running;
    parts_->run();
}

Task<void> Machine::co_stop() {
    CoMutex::Guard guard = co_await parts_->changing.co_lock();
    parts_->state = State::Stopped;
    co_await parts_->co_quiesce();
}

Task<Result<void>> Machine::co_reset() {
    Parts& parts = *parts_;
    CoMutex::Guard guard = co_await parts.changing.co_lock();
    co_await parts.co_quiesce();
    parts.take_request();  // it came too late
    for (const auto& slot : parts.slots)
        co_await slot->co_reset();
    parts.uart.reset();
    parts.rtc.reset();
    parts.aclint.reset();
    parts.plic.reset();
    auto done = parts.power_on();
    if (done && parts.state == State::Running)
        parts.run();
    co_return done;
}

Task<void> Machine::co_close() {
    co_await co_stop();
    for (const auto& device : parts_->devices)
        co_await device->co_close();
}

unsigned Machine::hart_count() const {
    return static_cast<unsigned>(parts_->harts.size());
}

Hart& Machine::hart(unsigned number) {
    return *parts_->harts[number];
}

void Machine::plan(std::vector<HartPlan> plan) {
    parts_->plan = std::move(plan);
}

int Machine::harts_thread_id() const {
    return parts_->runner.thread_id();
}

}  // namespace ashlar
