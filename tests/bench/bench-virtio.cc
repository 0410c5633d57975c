// What a request to a virtio disk costs above the block layer: the driver's side, the notification, the device, and a
// disk that does nothing. docs/devel/virtio.md has figures.
#include <benchmark/benchmark.h>

#include "hw/virtio_blk.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/virtio_driver.h"

using namespace ashlar;

namespace {

struct Disk : BlockFixture {
    std::unique_ptr<GuestRam> ram = make_guest_ram();
    LineProbe line;
    std::unique_ptr<VirtioBlk> blk;
    std::unique_ptr<VirtioMmio> mmio;
    std::unique_ptr<VirtioDriver> driver;

    Disk() {
        add("{'driver':'null-co','node-name':'disk','size':1073741824}");
        VirtioBlkOptions options;
        options.drive = "disk";
        blk = check(run(VirtioBlk::co_create(*graph, options, *ram, *context, {})));
        mmio = std::make_unique<VirtioMmio>(blk.get(), InterruptLine(line, 1), false);
        driver = std::make_unique<VirtioDriver>(*ram, *mmio);
        g_assert_true(driver->negotiate());
        driver->add_queue(0, 256);
        driver->ready();
        while (context->poll(false)) {
        }
    }
    ~Disk() { run(blk->co_close()); }
};

// Reads of 4 KiB, `depth` at a time, in chains of three descriptors.
void read_from_nothing(benchmark::State& state) {
    Disk d;
    const auto depth = static_cast<unsigned>(state.range(0));
    DriverQueue& queue = d.driver->queues.at(0);
    for (unsigned i = 0; i < depth; ++i) {
        const uint32_t header[4] = {0, 0, 8 * i, 0};
        memcpy(d.ram->at(kGuestData + 64 * i, 16), header, 16);
    }
    for (auto _ : state) {
        for (unsigned i = 0; i < depth; ++i)
            queue.add({{kGuestData + 64 * i, 16},
                       {kGuestData + (1 << 20) + 4096 * i, 4096, true},
                       {kGuestData + 64 * i + 16, 1, true}});
        d.driver->kick(0);
        for (unsigned done = 0; done < depth;) {
            d.context->poll(false);
            while (queue.take_used())
                ++done;
        }
        d.driver->acknowledge();
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * depth);
}
BENCHMARK(read_from_nothing)->Arg(1)->Arg(4)->Arg(16)->Arg(64);

// The driver's side alone: what of the above is not the device's.
void driver_alone(benchmark::State& state) {
    auto ram = make_guest_ram();
    DriverQueue queue(*ram, kGuestBase, 256, true);
    Virtqueue device;
    g_assert_true(device.set_up(*ram, queue.layout(), {.event_index = true, .indirect = true}));
    VirtqueueChain chain;
    for (auto _ : state) {
        queue.add({{kGuestData, 16}, {kGuestData + 4096, 4096, true}, {kGuestData + 16, 1, true}});
        benchmark::DoNotOptimize(device.take(chain));
        device.give_back(chain.head, 4097);
        benchmark::DoNotOptimize(device.publish());
        benchmark::DoNotOptimize(queue.take_used());
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()));
}
BENCHMARK(driver_alone);

}  // namespace

BENCHMARK_MAIN();
