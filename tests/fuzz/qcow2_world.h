// What the fuzz targets of whole qcow2 images share: a context, drivers for an image in memory, and checking it.
#pragma once

#include "block/block_backend.h"
#include "block/image_format.h"
#include "block/qcow2.h"
#include "tests/fuzz/memory_driver.h"
#include "util/json.h"
#include "util/sync_wait.h"

#include <cassert>
#include <optional>
#include <span>
#include <string>

namespace ashlar {

struct Checked : ImageCheck {
    // Of the corruptions: flags that do not say that a count is one. Where two guest clusters are one cluster of the
    // file, a write to one of them takes that reference away, and nobody knows the other.
    int64_t missing_flags = 0;
};

struct Qcow2World {
    std::unique_ptr<AioContext> context;
    DriverRegistry registry;

    Qcow2World() {
        auto made = AioContext::create(AioContext::EngineKind::Epoll);
        assert(made);
        context = std::move(*made);
        registry.add(kMemoryDriver);
        registry.add(kQcow2Driver);
    }

    static void load(const uint8_t* data, size_t size) {
        auto bytes = std::as_bytes(std::span(data, size));
        g_memory_file.bytes.assign(bytes.begin(), bytes.end());
    }

    // Small caches, so that they are used up.
    static Json node_options(bool writable) {
        return {{"driver", "qcow2"},          {"node-name", "q"},
                {"read-only", !writable},     {"discard", "unmap"},
                {"backing", nullptr},         {"l2-cache-size", 4096},
                {"l2-cache-entry-size", 512}, {"file", Json{{"driver", "memory"}}}};
    }

    // What a check says; nothing if the image cannot be opened, or the check not be done.
    static Task<std::optional<Checked>> co_check(BlockGraph& graph, CheckFix fix) {
        NodeFlags flags{.check = true};
        auto node = co_await graph.co_open(node_options(fix != CheckFix::None), Typing::Strict, flags);
        if (!node)
            co_return std::nullopt;
        BlockPerm repair = fix == CheckFix::None ? BlockPerm::None : BlockPerm::Write | BlockPerm::Resize;
        BlockBackend disk(graph, "", {BlockPerm::ConsistentRead | repair, BlockPerm::All});
        std::optional<Checked> result;
        int64_t missing = 0;
        if (co_await disk.co_attach(**node)) {
            auto check = co_await (*node)->driver().image_format()->co_check(fix, [&](const std::string& line) {
                missing += line.starts_with("ERROR OFLAG_COPIED") && line.ends_with("refcount=1");
            });
            if (check)
                result = Checked{*check, missing};
            (void)co_await disk.co_detach();
        }
        (void)co_await graph.co_unref(**node);
        co_return result;
    }
    std::optional<Checked> check(BlockGraph& graph, CheckFix fix) { return sync_wait(*context, co_check(graph, fix)); }
};

// There is nothing wrong but leaked clusters.
inline bool is_sound(const std::optional<Checked>& check) {
    return check && check->corruptions == 0 && check->errors == 0;
}
// The same after writes.
inline bool is_still_sound(const std::optional<Checked>& check) {
    return check && check->corruptions == check->missing_flags && check->errors == 0;
}

}  // namespace ashlar
