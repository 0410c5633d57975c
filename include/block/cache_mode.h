// The cache modes that -drive, --cache and `cache=` name: what they mean for the host's page cache and for flushes.
#pragma once

#include "block/node_flags.h"
#include "util/enum_names.h"

namespace ashlar {

enum class CacheMode : uint8_t { Writeback, None, Writethrough, Directsync, Unsafe };
constexpr auto enum_names(CacheMode) {
    return std::to_array<EnumName<CacheMode>>({
        {CacheMode::Writeback, "writeback"},
        {CacheMode::None, "none"},
        {CacheMode::None, "off"},
        {CacheMode::Writethrough, "writethrough"},
        {CacheMode::Directsync, "directsync"},
        {CacheMode::Unsafe, "unsafe"},
    });
}

constexpr bool is_direct(CacheMode mode) {
    return mode == CacheMode::None || mode == CacheMode::Directsync;
}
constexpr bool is_no_flush(CacheMode mode) {
    return mode == CacheMode::Unsafe;
}
// Whether a write may be answered before it is on stable storage (BlockBackend::set_write_cache).
constexpr bool is_writeback(CacheMode mode) {
    return mode != CacheMode::Writethrough && mode != CacheMode::Directsync;
}

}  // namespace ashlar
