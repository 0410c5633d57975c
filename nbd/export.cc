#include "nbd/export.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace ashlar {

namespace {

constexpr uint32_t kMaxMinimumBlock = 64u << 10;  // the protocol's limit
constexpr uint32_t kPreferredBlock = 4096;

Result<FoundBitmap> find_bitmap_for(BlockGraph& graph, const BlockDriverState& node, const BitmapName& name) {
    FoundBitmap found;
    if (name.node) {
        auto other = graph.find_device_or_node(*name.node);
        if (!other)
            return fail("Node '{}' not found", *name.node);
        auto bitmap = get_bitmap(**other, name.name);
        if (!bitmap)
            return std::unexpected(std::move(bitmap.error()));
        found = {std::move(*bitmap), *other};
    } else {
        found = find_bitmap_below(node, name.name);
    }
    if (!found.bitmap)
        return fail("Bitmap '{}' is not found", name.name);
    if (auto ok = found.bitmap->check_use(DirtyBitmap::Use::Read); !ok)
        return std::unexpected(std::move(ok.error()));
    return found;
}

Result<std::vector<std::shared_ptr<DirtyBitmap>>> find_bitmaps(BlockGraph& graph, const BlockDriverState& node,
                                                               const NbdExportOptions& options) {
    std::vector<std::shared_ptr<DirtyBitmap>> bitmaps;
    for (const BitmapName& name : options.bitmaps) {
        auto found = find_bitmap_for(graph, node, name);
        if (!found)
            return std::unexpected(std::move(found.error()));
        if (!options.writable && !found->node->is_read_only() && found->bitmap->is_enabled())
            return fail("Enabled bitmap '{}' incompatible with readonly export", name.name);
        for (const auto& other : bitmaps)
            if (other->name() == name.name)
                return fail("Bitmap '{}' is named twice", name.name);
        bitmaps.push_back(std::move(found->bitmap));
    }
    return bitmaps;
}

}  // namespace

NbdExport::NbdExport(NbdExportOptions options, std::unique_ptr<BlockBackend> backend)
    : options_(std::move(options)), backend_(std::move(backend)) {}

NbdExport::~NbdExport() {
    assert(!backend_);
}

Task<Result<std::shared_ptr<NbdExport>>> NbdExport::co_create(NbdExportOptions options, BlockGraph& graph,
                                                              BlockDriverState& node) {
    if (options.name.size() > nbd::kMaxString)
        co_return fail("export name '{}...' is too long: {} bytes exceed the limit of {}", options.name.substr(0, 32),
                       options.name.size(), nbd::kMaxString);
    if (!nbd::is_valid_string(options.name))
        co_return fail("export name: must be UTF-8 without NUL");
    if (!nbd::is_valid_string(options.description))
        co_return fail("export '{}': description: must be UTF-8 without NUL, of at most {} bytes", options.name,
                       nbd::kMaxString);
    BlockPerm wanted = BlockPerm::ConsistentRead | (options.writable ? BlockPerm::Write : BlockPerm::None);
    // Clients have been told the size.
    ChildPerm perm{.perm = wanted, .shared = BlockPerm::All & ~BlockPerm::Resize};
    auto backend = std::make_unique<BlockBackend>(graph, std::string(), perm);
    if (auto attached = co_await backend->co_attach(node); !attached)
        co_return std::unexpected(std::move(attached).error());
    auto bitmaps = find_bitmaps(graph, node, options);
    if (!bitmaps) {
        (void)co_await backend->co_detach();
        co_return std::unexpected(std::move(bitmaps.error()));
    }
    std::string name = options.name;
    std::shared_ptr<NbdExport> exported(new NbdExport(std::move(options), std::move(backend)));
    exported->bitmaps_ = std::move(*bitmaps);
    for (const auto& bitmap : exported->bitmaps_)
        bitmap->set_busy(true);
    if (int64_t length = exported->backend().length(); length < 0) {
        (void)co_await exported->co_close();
        co_return fail_errno(static_cast<int>(-length), "export '{}': the size of the device is not known", name);
    }
    exported->backend().set_write_cache(!exported->options_.writethrough);
    co_return exported;
}

Task<Result<void>> NbdExport::co_close() {
    for (const auto& bitmap : bitmaps_)
        bitmap->set_busy(false);
    bitmaps_.clear();
    auto detached = co_await backend_->co_detach();
    backend_.reset();
    co_return detached;
}

nbd::ExportInfo NbdExport::info(nbd::HeaderStyle style, bool has_meta_contexts) const {
    using namespace nbd;
    uint16_t flags = kHasFlags | kSendFlush | kSendFua | kSendCache;
    flags |= options_.writable ? kSendTrim | kSendWriteZeroes | kSendFastZero : kReadOnly;
    if (backend_->is_rotational())
        flags |= kRotational;
    if (options_.multi_conn.value_or(backend_->can_multi_conn()))
        flags |= kCanMultiConn;
    if (style != HeaderStyle::Simple)
        flags |= kSendDf;
    if (style == HeaderStyle::Extended && has_meta_contexts)
        flags |= kBlockStatusPayload;
    return {static_cast<uint64_t>(std::max<int64_t>(0, backend_->length())), flags};
}

nbd::BlockSizes NbdExport::block_sizes(bool agreed) const {
    const BlockLimits& limits = backend_->limits();
    nbd::BlockSizes sizes;
    if (agreed) {
        // The backend takes any request; what it prefers is asked only of clients that promised to keep to it, and only
        // as far as the last bytes stay within reach.
        uint64_t length = static_cast<uint64_t>(std::max<int64_t>(0, backend_->length()));
        uint64_t reachable = length == 0 ? kMaxMinimumBlock : uint64_t{1} << std::countr_zero(length);
        sizes.minimum = static_cast<uint32_t>(
            std::min<uint64_t>({std::max(limits.request_alignment, 1u), kMaxMinimumBlock, reachable}));
    }
    sizes.preferred =
        std::max({kPreferredBlock, std::bit_ceil(std::min(limits.opt_transfer, nbd::kMaxPayload)), sizes.minimum});
    return sizes;
}

AioContext& NbdExport::next_context(AioContext& home) {
    if (options_.contexts.empty())
        return home;
    AioContext& context = *options_.contexts[next_context_];
    next_context_ = (next_context_ + 1) % options_.contexts.size();
    return context;
}

}  // namespace ashlar
