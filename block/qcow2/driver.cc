#include "block/qcow2/driver.h"

#include "block/block_graph.h"
#include "block/dirty_bitmap.h"
#include "block/file_name.h"
#include "block/node_io.h"
#include "block/open_write_access.h"
#include "block/qcow2.h"
#include "block/qcow2/amend.h"
#include "block/qcow2/bitmap_directory.h"
#include "block/qcow2/bitmaps.h"
#include "block/qcow2/check.h"
#include "block/qcow2/create.h"
#include "block/qcow2/open.h"
#include "block/qcow2/preallocate.h"
#include "block/qcow2/read.h"
#include "block/qcow2/snapshots.h"
#include "block/qcow2/truncate.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/json.h"
#include "util/report.h"

#include <cerrno>

namespace ashlar::qcow2 {

// Frees what the caches hold and nobody uses, every `cache-clean-interval` seconds. In the main context.
struct Qcow2Driver::CleanTimer : Timer {
    Image& image;
    int64_t interval_ns;

    CleanTimer(AioContext& context, Image& of, unsigned seconds)
        : Timer(context, [](Timer& timer) { static_cast<CleanTimer&>(timer).clean(); }),
          image(of),
          interval_ns(int64_t{seconds} * 1'000'000'000) {
        arm(now_ns() + interval_ns);
    }
    void clean() {
        image.l2_cache.clean_unused();
        if (image.writing)
            image.writing->refcounts.blocks().clean_unused();
        arm(now_ns() + interval_ns);
    }
};

struct Qcow2Driver::Reopening {
    Qcow2Options options;
    CacheSizes sizes;
    std::unique_ptr<WriteState> writing;  // the one to come, if it could not be written to before
    bool becomes_read_only = false;
    NodeFlags flags;
};

Qcow2Driver::Qcow2Driver(const OpenContext& context, Qcow2Options options, std::unique_ptr<Image> image)
    : BlockDriver(context), options_(std::move(options)), image_(std::move(image)) {
    if (options_.cache_clean_interval > 0)
        clean_timer_ =
            std::make_unique<CleanTimer>(context.graph().main_context(), *image_, options_.cache_clean_interval);
}

Qcow2Driver::~Qcow2Driver() = default;

BdrvChild* Qcow2Driver::backing() const {
    return node().cow_child();
}

Task<int> Qcow2Driver::co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) {
    return co_read(*image_, backing(), offset, bytes, iov);
}

bool Qcow2Driver::may_change() const {
    return image_->writing->header_is_ours.load(std::memory_order_acquire) && !image_->is_corrupt();
}

Task<int> Qcow2Driver::co_begin_change() {
    WriteState& state = *image_->writing;
    if (image_->is_corrupt())
        co_return co_await state.co_mark_corrupt();
    if (state.header_is_ours.load(std::memory_order_acquire))
        co_return 0;
    auto guard = co_await state.allocation_lock.co_lock();
    // Done when it was opened for writing, but not if that was by reopening it.
    if (std::ranges::any_of(node().dirty_bitmaps(), [](const auto& bitmap) { return bitmap->is_persistent(); }))
        if (auto marked = co_await co_mark_bitmaps_in_use(*image_); !marked) {
            error_report(std::move(marked.error()).prefixed(image_->name));
            co_return -EIO;
        }
    // Features that this program does not know are not kept consistent.
    Header header = image_->header;
    header.autoclear &= kDataFileRaw | kBitmaps;
    if (state.lazy_refcounts)
        header.incompatible |= kDirty;
    if (header.autoclear != image_->header.autoclear || header.incompatible != image_->header.incompatible) {
        if (int ret = co_await image_->co_write_header(std::move(header)); ret < 0)
            co_return ret;
    }
    state.header_is_ours.store(true, std::memory_order_release);
    co_return 0;
}

Task<int> Qcow2Driver::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (!may_change())
        if (int ret = co_await co_begin_change(); ret < 0)
            co_return ret;
    if (has(flags, RequestFlags::Compressed))
        co_return co_await co_write_compressed(*image_, backing(), offset, bytes, iov);
    co_return co_await co_write(*image_, backing(), offset, bytes, iov);
}

Task<int> Qcow2Driver::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    if (!may_change())
        if (int ret = co_await co_begin_change(); ret < 0)
            co_return ret;
    co_return co_await co_write_zeroes(*image_, backing(), offset, bytes, flags);
}

Task<int> Qcow2Driver::co_pdiscard(int64_t offset, int64_t bytes) {
    if (!may_change())
        if (int ret = co_await co_begin_change(); ret < 0)
            co_return ret;
    co_return co_await co_discard(*image_, backing(), offset, bytes);
}

Task<int> Qcow2Driver::co_flush() {
    if (image_->writing && image_->has_reported())
        co_return co_await image_->writing->co_mark_corrupt();
    if (!image_->writing || image_->is_corrupt())
        co_return co_await BlockDriver::co_flush();
    co_return co_await image_->writing->co_flush();
}

Task<Result<>> Qcow2Driver::co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    co_return co_await co_resize(*image_, backing(), size, exact, prealloc);
}

Task<Result<void>> Qcow2Driver::co_preallocate(PreallocMode mode) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    auto done = co_await qcow2::co_preallocate(*image_, 0, static_cast<uint64_t>(image_->length.get()), mode);
    if (done && &image_->data != &image_->file)
        done = co_await image_->data.co_truncate(image_->length.get(), false, mode_below(mode));
    if (!done)
        co_return done;
    if (int ret = co_await image_->writing->co_settle(); ret < 0)
        co_return fail_errno(-ret, "Could not preallocate clusters");
    co_return {};
}

// When nothing will change any more.
Task<int> Qcow2Driver::co_store_bitmaps() {
    auto is_lost = [&](const auto& bitmap) {
        return bitmap->is_persistent() && !bitmap->is_inconsistent() && !bitmap->is_read_only();
    };
    if (std::ranges::none_of(node().dirty_bitmaps(), is_lost))
        co_return 0;
    Result<void> stored;
    if (!image_->writing)
        stored = fail("No write access");
    else if (stored = co_await co_begin_operation(); stored)
        stored = co_await qcow2::co_store_bitmaps(*image_, node());
    if (stored)
        co_return 0;
    warn_report("Lost persistent bitmaps during inactivation of node '{}': {}", node().node_name(),
                stored.error().message);
    co_return image_->writing ? -EIO : 0;
}

Task<int> Qcow2Driver::co_close() {
    const int lost = co_await co_store_bitmaps();
    if (!image_->writing)
        co_return 0;
    WriteState& state = *image_->writing;
    if (image_->has_reported())
        co_return co_await state.co_mark_corrupt();  // what is in memory may be as wrong as what is on the disk
    if (image_->is_corrupt())
        co_return 0;  // nothing has been changed
    int ret = co_await state.co_settle();
    if (ret == 0 && image_->header.has(kDirty))
        ret = co_await state.co_set_dirty(false);
    co_return ret < 0 ? ret : lost;
}

BlockLimits Qcow2Driver::limits() const {
    const Geometry& geometry = image_->geometry();
    return {.pwrite_zeroes_alignment = static_cast<uint32_t>(geometry.subcluster_size()),
            .pdiscard_alignment = static_cast<uint32_t>(geometry.cluster_size())};
}

SupportedFlags Qcow2Driver::supported_flags() const {
    const RequestFlags fast = image_->format.version >= 3 ? RequestFlags::NoFallback : RequestFlags::None;
    return {.write = RequestFlags::Compressed | RequestFlags::Unchanged, .write_zeroes = RequestFlags::MayUnmap | fast};
}

Task<BlockStatus> Qcow2Driver::co_block_status(bool want_zero, int64_t offset, int64_t bytes) {
    int64_t left = image_->length.get() - offset;
    if (left <= 0)
        co_return BlockStatus{.ret = -EINVAL};
    Run run;
    auto guest = static_cast<uint64_t>(offset);
    if (int ret = co_await image_->co_map(guest, static_cast<uint64_t>(std::min(bytes, left)), run); ret < 0)
        co_return BlockStatus{.ret = ret};
    BlockStatus status{.bytes = static_cast<int64_t>(run.bytes)};
    if (run.kind == Kind::Normal || run.kind == Kind::ZeroAlloc) {
        status.flags |= BlockStatus::OffsetValid;
        status.offset = static_cast<int64_t>(run.host);
    }
    if (is_zero(run.kind))
        status.flags |= BlockStatus::Zero;
    if (run.kind == Kind::Normal) {
        status.flags |= BlockStatus::Data;
        // What has been given its place and nothing else is a hole in the file.
        if (want_zero && !image_->format.data_file && co_await image_->co_has_empty_clusters()) {
            BlockStatus below = co_await image_->file.co_block_status(true, status.offset, status.bytes);
            if (below.ret == 0 && below.bytes > 0) {
                status.bytes = std::min(status.bytes, below.bytes);
                if (below.has(BlockStatus::Zero))
                    status.flags |= BlockStatus::Zero;
            }
        }
    }
    if (run.kind == Kind::Compressed)
        status.flags |= BlockStatus::Data | BlockStatus::Compressed;
    co_return status;
}

BackingName Qcow2Driver::backing_name() const {
    Header header = image_->header_copy();
    return {header.backing_file, header.backing_format.value_or("")};
}

Task<Result<void>> Qcow2Driver::co_begin_operation() {
    if (!image_->writing)
        co_return fail_errno(EACCES, "{}: the image is open read-only", image_->name);
    if (int ret = co_await co_begin_change(); ret < 0)
        co_return fail_errno(-ret, "{}: the image cannot be changed", image_->name);
    co_return {};
}

Task<Result<ImageCheck>> Qcow2Driver::co_check(CheckFix fix, CheckReporter report) {
    return qcow2::co_check(*image_, fix, std::move(report));
}

Task<Result<void>> Qcow2Driver::co_change_backing_name(BackingName name) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    co_return co_await qcow2::co_change_backing_name(*image_, std::move(name));
}

Task<Result<void>> Qcow2Driver::co_make_empty() {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    co_return co_await qcow2::co_make_empty(*image_);
}

Task<Result<void>> Qcow2Driver::co_resize_for_amend(int64_t size) {
    auto resized = co_await co_truncate(size, true, PreallocMode::Off, {});
    NodeIo::announce_resize(node());
    co_return resized;
}

Task<Result<void>> Qcow2Driver::co_amend(Json options, bool, Progress& progress) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    co_return co_await qcow2::co_amend(
        *image_, backing(), std::move(options), [this](int64_t size) { return co_resize_for_amend(size); }, progress);
}

std::vector<ImageSnapshot> Qcow2Driver::snapshots() const {
    return list_snapshots(*image_);
}

Task<Result<void>> Qcow2Driver::co_create_snapshot(ImageSnapshot snapshot) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    co_return co_await qcow2::co_create_snapshot(*image_, std::move(snapshot));
}

Task<Result<void>> Qcow2Driver::co_apply_snapshot(std::string id) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    auto applied = co_await qcow2::co_apply_snapshot(*image_, std::move(id));
    NodeIo::announce_new_contents(node());
    co_return applied;
}

Task<Result<void>> Qcow2Driver::co_delete_snapshot(std::string id) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    co_return co_await qcow2::co_delete_snapshot(*image_, std::move(id));
}

Task<Result<void>> Qcow2Driver::co_show_snapshot(std::string id) {
    if (image_->writing)
        co_return fail_errno(EINVAL, "{}: a snapshot can be shown only by a node that is read-only", image_->name);
    auto shown = co_await qcow2::co_show_snapshot(*image_, std::move(id));
    NodeIo::announce_resize(node());
    co_return shown;
}

int64_t Qcow2Driver::vm_state_offset() const {
    return static_cast<int64_t>(vm_state_base(*image_));
}

Task<int> Qcow2Driver::co_write_vm_state(int64_t offset, std::span<const std::byte> data) {
    if (!image_->writing)
        co_return -EACCES;
    if (int ret = co_await co_begin_change(); ret < 0)
        co_return ret;
    co_return co_await qcow2::co_write_vm_state(*image_, offset, data);
}

Task<int> Qcow2Driver::co_read_vm_state(int64_t offset, std::span<std::byte> data) {
    return qcow2::co_read_vm_state(*image_, offset, data);
}

std::string Qcow2Driver::filename() const {
    // Enough to find the image again, unless the options say that something else is to be below it.
    if (options_.backing.is_given() || options_.data_file.is_given())
        return "";
    return image_->file.node().driver().filename();
}

namespace {

Json bitmaps_info(std::span<const BitmapEntry> bitmaps) {
    Json list = Json::array();
    for (const BitmapEntry& bitmap : bitmaps) {
        Json flags = Json::array();
        if (bitmap.flags & kBitmapInUse)
            flags.push_back("in-use");
        if (bitmap.flags & kBitmapAuto)
            flags.push_back("auto");
        list.push_back(Json{{"flags", std::move(flags)},
                            {"name", bitmap.name},
                            {"granularity", uint64_t{1} << bitmap.granularity_bits}});
    }
    return list;
}

}  // namespace

std::vector<StoredBitmap> Qcow2Driver::stored_bitmaps() const {
    std::vector<StoredBitmap> stored;
    for (const BitmapEntry& bitmap : image_->bitmaps)
        stored.push_back({.name = bitmap.name,
                          .granularity = uint32_t{1} << bitmap.granularity_bits,
                          .in_use = (bitmap.flags & kBitmapInUse) != 0,
                          .automatic = (bitmap.flags & kBitmapAuto) != 0});
    return stored;
}

Result<void> Qcow2Driver::can_store_bitmap(const std::string& name, uint32_t granularity) const {
    return qcow2::can_store_bitmap(*image_, node(), name, granularity);
}

Task<Result<void>> Qcow2Driver::co_remove_bitmap(std::string name) {
    if (auto begun = co_await co_begin_operation(); !begun)
        co_return begun;
    co_return co_await qcow2::co_remove_bitmap(*image_, name);
}

JsonBox Qcow2Driver::specific_info() const {
    const Header header = image_->header_copy();
    Json data;
    data["compat"] = header.version == 2 ? "0.10" : "1.1";
    data["compression-type"] = enum_name(header.compression);
    if (header.version >= 3) {
        data["lazy-refcounts"] = (header.compatible & kLazyRefcounts) != 0;
        if (!image_->bitmaps.empty())
            data["bitmaps"] = bitmaps_info(image_->bitmaps);
    }
    data["refcount-bits"] = header.geometry().refcount_bits();
    if (header.version >= 3) {
        if (header.has(kDataFile)) {
            if (header.data_file)
                data["data-file"] = *header.data_file;
            data["data-file-raw"] = header.data_file_raw();
        }
        data["corrupt"] = header.has(kCorrupt) || image_->is_corrupt();
        data["extended-l2"] = header.has(kExtendedL2);
    }
    return JsonBox(Json{{"type", "qcow2"}, {"data", std::move(data)}});
}

namespace {

Task<Result<BdrvChild*>> co_open_data_file(OpenContext& context, const Qcow2Options& options, const Header& header) {
    if (!header.has(kDataFile)) {
        if (options.data_file.is_given())
            co_return fail("'data-file' can only be set for images with an external data file");
        co_return nullptr;
    }
    if (context.flags().inspect)
        co_return nullptr;
    if (options.data_file.is_given())
        co_return co_await context.co_open_child("data-file", options.data_file, ChildRole::Data);
    if (!header.data_file)
        co_return fail("'data-file' is required for this image");
    // An image from somewhere else must not be able to open anything at all.
    if (header.data_file->starts_with("json:"))
        co_return fail("data_file: '{}': an image may not name a json: data file", *header.data_file);
    // (As in QEMU its name is not relative to the image's, as a backing file's is.)
    co_return co_await context.co_open_named_child("data-file", *header.data_file, "", ChildRole::Data);
}

Task<Result<void>> co_open_backing(OpenContext& context, const Qcow2Options& options, const Header& header) {
    if (context.flags().inspect)
        co_return {};
    Result<BdrvChild*> child = nullptr;
    if (options.backing.is_given() && !options.backing.is_null())
        child = co_await context.co_open_child("backing", options.backing, ChildRole::Cow);
    else if (!options.backing.is_given() && !header.backing_file.empty())
        child = co_await context.co_open_named_child(
            "backing", combine_names(context.node().primary_child()->node().filename(), header.backing_file),
            header.backing_format.value_or(""), ChildRole::Cow);
    if (!child)
        co_return std::unexpected(std::move(child.error()).prefixed("Could not open backing file"));
    co_return {};
}

// Whoever wrote to the image last did not close it.
Task<Result<void>> co_repair_dirty(Image& image) {
    if (auto taken = acquire_write_access(image.file); !taken)
        co_return taken;
    auto checked = co_await co_check(image, CheckFix::All,
                                     [&](const std::string& line) { info_report("{}: {}", image.name, line); });
    if (!checked)
        co_return std::unexpected(std::move(checked.error()).prefixed("Could not repair dirty image"));
    if (image.header.has(kDirty) || image.is_corrupt())
        co_return fail("Could not repair dirty image: {} errors are left", checked->corruptions + checked->errors);
    co_return {};
}

// What the options say of an image that is written to.
Result<void> apply_options(const Image& image, WriteState& writing, const Qcow2Options& options,
                           const NodeFlags& flags) {
    if (options.lazy_refcounts.value_or(false) && image.format.version < 3)
        return std::unexpected(
            Error{"Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level", {}, EINVAL});
    if (options.discard_no_unref && image.format.version < 3)
        return std::unexpected(Error{"discard-no-unref is only supported since qcow2 version 3", {}, EINVAL});
    auto checks = overlap_checks(options);
    if (!checks)
        return std::unexpected(std::move(checks.error()));
    writing.metadata.set_checks(*checks);
    writing.lazy_refcounts = options.lazy_refcounts.value_or((image.header.compatible & kLazyRefcounts) != 0);
    writing.pass_discards = {options.pass_discard_request.value_or(flags.discard == Discard::Unmap),
                             options.pass_discard_snapshot, options.pass_discard_other};
    writing.discard_no_unref = options.discard_no_unref;
    return {};
}

// With `flags.check` an image that makes no sense is only distrusted.
Task<Result<std::unique_ptr<WriteState>>> co_make_writable(Image& image, const Qcow2Options& options,
                                                           const NodeFlags& flags) {
    auto sizes = cache_sizes(options, image.geometry(), image.header.size);
    if (!sizes)
        co_return std::unexpected(std::move(sizes.error()));
    auto reftable = co_await co_load_reftable(image.file, image.header);
    if (!reftable && !flags.check)
        co_return std::unexpected(std::move(reftable.error()));
    const bool broken = !reftable;
    auto writing = std::make_unique<WriteState>(image, image.cache_owner(),
                                                reftable ? std::move(*reftable) : std::vector<uint64_t>{},
                                                sizes->refcount_pieces * image.geometry().cluster_size());
    if (auto applied = apply_options(image, *writing, options, flags); !applied)
        co_return std::unexpected(std::move(applied.error()));
    auto found = writing->find_metadata();
    if (found)
        found = co_await writing->co_find_inactive_tables();
    if (!found && !flags.check && !image.header.has(kDirty))
        co_return std::unexpected(std::move(found.error()));
    if (broken || !found || (image.header.incompatible & (kCorrupt | kDirty)))
        image.distrust();
    co_return writing;
}

Task<Result<std::unique_ptr<BlockDriver>>> co_open(OpenContext& context) {
    auto options = context.parse<Qcow2Options>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto file = co_await context.co_open_child("file", options->file,
                                               ChildRole::Data | ChildRole::Metadata | ChildRole::Primary);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    const std::string name = (*file)->node().filename();
    auto fail_with = [&](Error error) { return std::unexpected(std::move(error).prefixed(name)); };

    if (auto checks = overlap_checks(*options); !checks)
        co_return fail_with(std::move(checks.error()));
    const bool check = context.flags().check;
    auto header = co_await co_load_header(**file, check);
    if (!header)
        co_return fail_with(std::move(header.error()));
    auto sizes = cache_sizes(*options, header->geometry(), header->size);
    if (!sizes)
        co_return fail_with(std::move(sizes.error()));
    auto l1 = co_await co_load_table(**file, "l1_table_offset", header->l1_offset, header->l1_size);
    if (!l1)
        co_return fail_with(std::move(l1.error()));
    if (!context.flags().read_only && !check)
        if (auto writable = check_writable(*header); !writable) {
            auto allowed = context.fall_back_to_read_only(std::move(writable.error()).prefixed(name));
            if (!allowed)
                co_return std::unexpected(std::move(allowed.error()));
        }
    auto data = co_await co_open_data_file(context, *options, *header);
    if (!data)
        co_return fail_with(std::move(data.error()));
    if (auto backing = co_await co_open_backing(context, *options, *header); !backing)
        co_return fail_with(std::move(backing.error()));

    auto image =
        std::make_unique<Image>(**file, *data ? **data : **file, std::move(*header), std::move(*l1), *sizes, name);
    if (auto loaded = co_await co_load_snapshots(*image); !loaded && !check)
        co_return fail_with(std::move(loaded.error()));
    if (auto loaded = co_await co_load_bitmap_directory(*image); !loaded && !check)
        co_return fail_with(std::move(loaded.error()));
    if (!context.flags().read_only) {
        auto writing = co_await co_make_writable(*image, *options, context.flags());
        if (!writing)
            co_return fail_with(std::move(writing.error()));
        image->writing = std::move(*writing);
        if (image->header.has(kDirty) && !check)
            if (auto repaired = co_await co_repair_dirty(*image); !repaired)
                co_return fail_with(std::move(repaired.error()));
    }
    if (!context.flags().check && !context.flags().inspect) {
        auto loaded = co_await co_load_bitmaps(*image, context.node());
        if (loaded && image->writing && !image->bitmaps.empty()) {
            loaded = acquire_write_access(image->file);
            if (loaded)
                loaded = co_await co_mark_bitmaps_in_use(*image);
        }
        if (!loaded)
            co_return fail_with(std::move(loaded.error()));
    }
    co_return std::make_unique<Qcow2Driver>(context, std::move(*options), std::move(image));
}

const OptionSchema& amend_schema() {
    return AmendOptions::options();
}

const OptionSchema& schema() {
    return Qcow2Options::options();
}

int probe(std::span<const std::byte> head, std::string_view) {
    return probe_header(head);
}

}  // namespace

// --- reopening ---

Task<Result<void>> Qcow2Driver::co_reopen_prepare(ReopenContext& context) {
    auto options = context.parse<Qcow2Options>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto sizes = cache_sizes(*options, image_->geometry(), image_->header.size);
    if (!sizes)
        co_return std::unexpected(std::move(sizes.error()));
    if (auto checks = overlap_checks(*options); !checks)
        co_return std::unexpected(std::move(checks.error()));
    auto next = std::make_unique<Reopening>(Reopening{std::move(*options), *sizes, {}, {}, context.new_flags()});
    const bool writable = !context.new_flags().read_only;
    if (writable && !image_->writing) {
        if (auto allowed = check_writable(image_->header); !allowed)
            co_return allowed;
        if (image_->header.has(kDirty))
            co_return fail("{}: the image is dirty and has to be repaired: open it anew for writing", image_->name);
        auto writing = co_await co_make_writable(*image_, next->options, context.new_flags());
        if (!writing)
            co_return std::unexpected(std::move(writing.error()));
        next->writing = std::move(*writing);
    } else if (image_->writing) {
        WriteState trial(*image_, image_->cache_owner(), {}, 0);
        if (auto applied = apply_options(*image_, trial, next->options, context.new_flags()); !applied)
            co_return applied;
        if (!writable && co_await co_store_bitmaps() < 0)
            co_return fail("{}: could not store the bitmaps", image_->name);
        // Nothing is in memory only when the caches change, or when it cannot be written any more.
        int ret = image_->is_corrupt() ? 0 : co_await image_->writing->co_settle();
        if (ret == 0 && image_->writing->lazy_refcounts && image_->writing->header_is_ours.exchange(false))
            ret = co_await image_->writing->co_set_dirty(false);
        if (ret < 0)
            co_return fail_errno(-ret, "{}: could not write what has been changed", image_->name);
        next->becomes_read_only = !writable;
        if (!writable)  // should it not be reopened after all, the next change is a first one
            image_->writing->header_is_ours = false;
    }
    reopening_ = std::move(next);
    co_return {};
}

void Qcow2Driver::reopen_commit(ReopenContext&) {
    Reopening& next = *reopening_;
    options_ = std::move(next.options);
    image_->l2_cache.resize(next.sizes.l2_piece_bytes, next.sizes.l2_pieces);
    if (next.writing)
        image_->writing = std::move(next.writing);
    else if (next.becomes_read_only)
        image_->writing.reset();
    else if (image_->writing) {
        (void)apply_options(*image_, *image_->writing, options_, next.flags);  // which it could be
        image_->writing->refcounts.resize_cache(next.sizes.refcount_pieces * image_->geometry().cluster_size());
    }
    for (const auto& bitmap : node().dirty_bitmaps())
        if (bitmap->is_persistent())
            bitmap->set_read_only(!image_->writing);
    clean_timer_.reset();
    if (options_.cache_clean_interval > 0)
        clean_timer_ =
            std::make_unique<CleanTimer>(node().graph().main_context(), *image_, options_.cache_clean_interval);
    reopening_.reset();
}

void Qcow2Driver::reopen_abort(ReopenContext&) {
    reopening_.reset();
}

}  // namespace ashlar::qcow2

namespace ashlar {

const DriverType kQcow2Driver = {
    .name = "qcow2",
    .options = qcow2::schema,
    .co_open = qcow2::co_open,
    .probe = qcow2::probe,
    .supports_backing = true,
    .create_options = []() -> const OptionSchema& { return qcow2::CreateOptions::options(); },
    .co_create = qcow2::co_create,
    .co_measure = qcow2::co_measure,
    .amend_options = qcow2::amend_schema};

}  // namespace ashlar
