// NbdFixture: a server with one export, "disk", over a TestDisk.
#pragma once

#include <memory>

#include "nbd/server.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/nbd_peer.h"
#include "tests/unit/nbd_test_disk.h"

namespace ashlar {

struct NbdFixture : BlockFixture {
    static constexpr DriverType kTestDisk = TestDiskDriver::type();

    TestDisk disk;
    BlockDriverState* node = nullptr;
    std::unique_ptr<NbdServer> server;

    explicit NbdFixture(NbdExportOptions options = writable(), NbdServerOptions limits = {}, size_t size = 1 << 20,
                        uint32_t alignment = 1)
        : disk(size) {
        for (size_t i = 0; i < size; i++)
            disk.content[i] = static_cast<std::byte>(i * 7 + i / 256);
        disk.alignment = alignment;
        g_test_disk = &disk;
        registry.add(kTestDisk);
        node = &add("{'driver': 'test-disk', 'node-name': 'disk', 'discard': 'unmap'}");
        server = std::make_unique<NbdServer>(*context, limits);
        add_export(std::move(options));
    }
    ~NbdFixture() {
        disk.release();
        disk.fail_with = 0;
        check(run(server->co_stop()));
    }

    void add_export(NbdExportOptions options) {
        check(server->add_export(check(run(NbdExport::co_create(std::move(options), *graph, *node)))));
    }
    static NbdExportOptions writable() {
        return {.name = "disk", .description = "a disk", .writable = true, .allocation_depth = true};
    }
    static NbdExportOptions read_only() { return {.name = "disk"}; }

    ByteVector expected(uint64_t offset, uint64_t length) const {
        auto from = disk.content.begin() + static_cast<ptrdiff_t>(offset);
        return {from, from + static_cast<ptrdiff_t>(length)};
    }
    bool turn_until(auto done) { return ashlar::turn_until(*context, done); }
    // Everything that is ready has run.
    void settle() {
        for (int i = 0; i < 50; i++)
            context->poll(false);
    }
};

}  // namespace ashlar
