#include "block/node_bitmaps.h"

#include "block/image_format.h"

#include <glib.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>

namespace ashlar {

namespace {

constexpr size_t kMaxName = 1023;

Result<void> check_can_store(const BlockDriverState& node, const std::string& name, uint32_t granularity) {
    ImageFormat* format = node.driver().image_format();
    Result<void> can =
        format ? format->can_store_bitmap(name, granularity) : std::unexpected(Error{.message = {}, .code = ENOTSUP});
    if (can)
        return can;
    if (can.error().code == ENOTSUP)
        return fail("Can't store persistent bitmaps to {}: Operation not supported", node.node_name());
    return std::unexpected(
        std::move(can.error())
            .prefixed(fmt::format("Can't make bitmap '{}' persistent in '{}'", name, node.node_name())));
}

Task<Result<void>> co_add_held(BlockDriverState& node, NewBitmap wanted) {
    if (wanted.name.empty())
        co_return fail("Bitmap name cannot be empty");
    if (find_bitmap(node, wanted.name))
        co_return fail("Bitmap already exists: {}", wanted.name);
    const int64_t length = node.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "could not get length of device");
    const uint32_t granularity = wanted.granularity.value_or(default_bitmap_granularity(node));
    auto bitmap = DirtyBitmap::create(wanted.name, granularity, length);
    if (!bitmap)
        co_return std::unexpected(std::move(bitmap.error()));
    if (wanted.persistent)
        if (auto can = check_can_store(node, wanted.name, granularity); !can)
            co_return can;
    if (wanted.name.size() > kMaxName)
        co_return fail("Bitmap name too long: {}", wanted.name);
    (*bitmap)->set_persistent(wanted.persistent);
    (*bitmap)->set_enabled(wanted.enabled);

    auto drained = co_await node.graph().co_drain(node);
    if (find_bitmap(node, wanted.name))  // made by someone else meanwhile
        co_return fail("Bitmap already exists: {}", wanted.name);
    (*bitmap)->resize(std::max<int64_t>(node.length(), 0));
    node.add_dirty_bitmap(std::move(*bitmap));
    co_return Result<void>();
}

Task<Result<void>> co_remove_held(BlockDriverState& node, std::string name) {
    auto drained = co_await node.graph().co_drain(node);
    auto bitmap = co_await co_begin_removal(node, std::move(name));
    if (!bitmap)
        co_return std::unexpected(std::move(bitmap.error()));
    finish_removal(node, **bitmap);
    co_return Result<void>();
}

// Holds the node until the end of what is done with it.
Task<Result<void>> co_with(BlockDriverState& node, Task<Result<void>> work) {
    node.graph().ref(node);
    auto done = co_await std::move(work);
    auto closed = co_await node.graph().co_unref(node);
    co_return done ? closed : done;
}

}  // namespace

uint32_t default_bitmap_granularity(const BlockDriverState& node) {
    const int64_t cluster = node.driver().cluster_size();
    return cluster > 0 ? static_cast<uint32_t>(std::clamp<int64_t>(cluster, 4 << 10, 64 << 10)) : 64 << 10;
}

std::shared_ptr<DirtyBitmap> find_bitmap(const BlockDriverState& node, std::string_view name) {
    for (const auto& bitmap : node.dirty_bitmaps())
        if (!name.empty() && bitmap->name() == name)
            return bitmap;
    return nullptr;
}

Result<std::shared_ptr<DirtyBitmap>> get_bitmap(const BlockDriverState& node, std::string_view name) {
    if (auto bitmap = find_bitmap(node, name))
        return bitmap;
    return fail("Dirty bitmap '{}' not found", name);
}

FoundBitmap find_bitmap_below(const BlockDriverState& node, std::string_view name) {
    for (const BlockDriverState* at = &node;;) {
        if (auto bitmap = find_bitmap(*at, name))
            return {std::move(bitmap), at};
        BdrvChild* below = at->type().is_filter ? at->primary_child() : at->cow_child();
        if (!below)
            return {};
        at = &below->node();
    }
}

Task<Result<void>> co_add_bitmap(BlockDriverState& node, NewBitmap bitmap) {
    return co_with(node, co_add_held(node, std::move(bitmap)));
}

Task<Result<void>> co_remove_bitmap(BlockDriverState& node, std::string name) {
    return co_with(node, co_remove_held(node, std::move(name)));
}

Task<Result<std::shared_ptr<DirtyBitmap>>> co_begin_removal(BlockDriverState& node, std::string name) {
    auto bitmap = get_bitmap(node, name);
    if (!bitmap)
        co_return bitmap;
    if (auto ok = (*bitmap)->check_use(DirtyBitmap::Use::Remove); !ok)
        co_return std::unexpected(std::move(ok.error()));
    (*bitmap)->set_busy(true);
    if (!(*bitmap)->is_persistent())
        co_return bitmap;
    if (auto removed = co_await node.driver().image_format()->co_remove_bitmap(std::move(name)); !removed) {
        (*bitmap)->set_busy(false);
        co_return std::unexpected(std::move(removed.error()));
    }
    co_return bitmap;
}

void finish_removal(BlockDriverState& node, DirtyBitmap& bitmap) {
    bitmap.set_busy(false);
    node.remove_dirty_bitmap(bitmap);
}

Result<void> clear_bitmap(BlockDriverState& node, std::string_view name) {
    auto bitmap = get_bitmap(node, name);
    if (!bitmap)
        return std::unexpected(std::move(bitmap.error()));
    if (auto ok = (*bitmap)->check_use(DirtyBitmap::Use::Change); !ok)
        return ok;
    (*bitmap)->clear_all();
    return {};
}

Result<void> enable_bitmap(BlockDriverState& node, std::string_view name, bool on) {
    auto bitmap = get_bitmap(node, name);
    if (!bitmap)
        return std::unexpected(std::move(bitmap.error()));
    if (auto ok = (*bitmap)->check_use(DirtyBitmap::Use::Read); !ok)
        return ok;
    (*bitmap)->set_enabled(on);
    return {};
}

Result<void> merge_bitmaps(BlockDriverState& node, std::string_view target, std::span<const BitmapName> sources) {
    auto into = get_bitmap(node, target);
    if (!into)
        return std::unexpected(std::move(into.error()));
    if (auto ok = (*into)->check_use(DirtyBitmap::Use::Change); !ok)
        return ok;
    std::vector<std::shared_ptr<DirtyBitmap>> from;
    for (const BitmapName& source : sources) {
        const BlockDriverState* of = &node;
        if (source.node) {
            auto found = node.graph().find_device_or_node(*source.node);
            if (!found)
                return fail("Node '{}' not found", *source.node);
            of = *found;
        }
        auto bitmap = get_bitmap(*of, source.name);
        if (!bitmap)
            return std::unexpected(std::move(bitmap.error()));
        if (auto ok = (*bitmap)->check_use(DirtyBitmap::Use::Read); !ok)
            return ok;
        if ((*bitmap)->size() != (*into)->size())
            return fail(
                "Bitmaps are of different sizes (destination size is {}, source size is {}) and can't be merged",
                (*into)->size(), (*bitmap)->size());
        from.push_back(std::move(*bitmap));
    }
    for (const auto& bitmap : from)
        (*into)->merge(*bitmap);
    return {};
}

std::string bitmap_sha256(const DirtyBitmap& bitmap) {
    constexpr uint64_t kWordBits = 64;
    GChecksum* checksum = g_checksum_new(G_CHECKSUM_SHA256);
    const uint64_t bytes = std::max<uint64_t>((bitmap.bits() + kWordBits - 1) / kWordBits, 1) * sizeof(uint64_t);
    std::array<std::byte, 4096> buffer;
    for (uint64_t done = 0; done < bytes;) {
        const size_t n = std::min<uint64_t>(buffer.size(), bytes - done);
        bitmap.store_bits(done * 8, std::span(buffer).first(n));
        g_checksum_update(checksum, reinterpret_cast<const guchar*>(buffer.data()), static_cast<gssize>(n));
        done += n;
    }
    std::string hash = g_checksum_get_string(checksum);
    g_checksum_free(checksum);
    return hash;
}

}  // namespace ashlar
