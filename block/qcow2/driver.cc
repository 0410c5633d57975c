#include "block/qcow2/driver.h"

#include "block/block_graph.h"
#include "block/file_name.h"
#include "block/qcow2.h"
#include "block/qcow2/create.h"
#include "block/qcow2/open.h"
#include "block/qcow2/read.h"
#include "block/qcow2/truncate.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/json.h"

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

Task<int> Qcow2Driver::co_begin_change() {
    WriteState& state = *image_->writing;
    if (image_->is_corrupt())
        co_return co_await state.co_mark_corrupt();
    if (header_is_ours_.load(std::memory_order_acquire))
        co_return 0;
    auto guard = co_await state.allocation_lock.co_lock();
    // Features that this program does not know are not kept consistent.
    if (image_->header.autoclear & ~uint64_t{kDataFileRaw}) {
        Header header = image_->header;
        header.autoclear &= kDataFileRaw;
        if (int ret = co_await image_->co_write_header(std::move(header)); ret < 0)
            co_return ret;
    }
    header_is_ours_.store(true, std::memory_order_release);
    co_return 0;
}

Task<int> Qcow2Driver::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) {
    if (!header_is_ours_.load(std::memory_order_acquire) || image_->is_corrupt())
        if (int ret = co_await co_begin_change(); ret < 0)
            co_return ret;
    co_return co_await co_write(*image_, backing(), offset, bytes, iov);
}

Task<int> Qcow2Driver::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    if (!header_is_ours_.load(std::memory_order_acquire) || image_->is_corrupt())
        if (int ret = co_await co_begin_change(); ret < 0)
            co_return ret;
    co_return co_await co_write_zeroes(*image_, backing(), offset, bytes, has(flags, RequestFlags::MayUnmap));
}

Task<int> Qcow2Driver::co_pdiscard(int64_t offset, int64_t bytes) {
    if (!header_is_ours_.load(std::memory_order_acquire) || image_->is_corrupt())
        if (int ret = co_await co_begin_change(); ret < 0)
            co_return ret;
    co_return co_await co_discard(*image_, backing(), offset, bytes);
}

Task<int> Qcow2Driver::co_flush() {
    if (!image_->writing)
        co_return co_await BlockDriver::co_flush();
    if (image_->is_corrupt())
        co_return co_await image_->writing->co_mark_corrupt();
    co_return co_await image_->writing->co_flush();
}

Task<Result<>> Qcow2Driver::co_truncate(int64_t size, bool, PreallocMode prealloc, RequestFlags) {
    if (prealloc != PreallocMode::Off)
        co_return fail_errno(ENOTSUP, "{}: preallocation", image_->name);
    int ret = co_await co_begin_change();
    if (ret == 0)
        ret = co_await co_resize(*image_, backing(), size);
    if (ret < 0)
        co_return fail_errno(-ret, "{}: could not resize the image", image_->name);
    co_return {};
}

Task<int> Qcow2Driver::co_close() {
    if (!image_->writing)
        co_return 0;
    WriteState& state = *image_->writing;
    if (image_->is_corrupt())
        co_return co_await state.co_mark_corrupt();  // what is in memory may be as wrong as what is on the disk
    int ret = co_await state.co_flush();
    if (ret == 0) {  // what that has made free
        auto guard = co_await state.allocation_lock.co_lock();
        ret = co_await state.refcounts.co_apply_frees();
    }
    if (ret == 0)
        ret = co_await state.co_writeback();
    co_return ret;
}

BlockLimits Qcow2Driver::limits() const {
    const Geometry& geometry = image_->geometry();
    return {.pwrite_zeroes_alignment = static_cast<uint32_t>(geometry.subcluster_size()),
            .pdiscard_alignment = static_cast<uint32_t>(geometry.cluster_size())};
}

SupportedFlags Qcow2Driver::supported_flags() const {
    return {.write_zeroes = RequestFlags::MayUnmap | RequestFlags::NoFallback};
}

Task<BlockStatus> Qcow2Driver::co_block_status(bool, int64_t offset, int64_t bytes) {
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
    if (run.kind == Kind::Normal)
        status.flags |= BlockStatus::Data;
    if (run.kind == Kind::Compressed)
        status.flags |= BlockStatus::Data | BlockStatus::Compressed;
    co_return status;
}

std::string Qcow2Driver::filename() const {
    // Enough to find the image again, unless the options say that something else is to be below it.
    if (options_.backing.is_given() || options_.data_file.is_given())
        return "";
    return image_->file.node().driver().filename();
}

JsonBox Qcow2Driver::specific_info() const {
    const Header header = image_->header_copy();
    Json data;
    data["compat"] = header.version == 2 ? "0.10" : "1.1";
    data["compression-type"] = enum_name(header.compression);
    if (header.version >= 3)
        data["lazy-refcounts"] = (header.compatible & kLazyRefcounts) != 0;
    data["refcount-bits"] = header.geometry().refcount_bits();
    if (header.version >= 3) {
        data["corrupt"] = header.has(kCorrupt) || image_->is_corrupt();
        data["extended-l2"] = header.has(kExtendedL2);
        if (header.has(kDataFile)) {
            if (header.data_file)
                data["data-file"] = *header.data_file;
            data["data-file-raw"] = header.data_file_raw();
        }
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

    auto header = co_await co_load_header(**file);
    if (!header)
        co_return fail_with(std::move(header.error()));
    auto sizes = cache_sizes(*options, header->geometry(), header->size);
    if (!sizes)
        co_return fail_with(std::move(sizes.error()));
    auto l1 = co_await co_load_table(**file, "l1_table_offset", header->l1_offset, header->l1_size);
    if (!l1)
        co_return fail_with(std::move(l1.error()));
    if (!context.flags().read_only)
        if (auto writable = check_writable(*header); !writable) {
            auto allowed = context.fall_back_to_read_only(std::move(writable.error()).prefixed(name));
            if (!allowed)
                co_return std::unexpected(std::move(allowed.error()));
        }
    std::vector<uint64_t> reftable;
    if (!context.flags().read_only) {
        auto loaded = co_await co_load_reftable(**file, *header);
        if (!loaded)
            co_return fail_with(std::move(loaded.error()));
        reftable = std::move(*loaded);
    }
    auto data = co_await co_open_data_file(context, *options, *header);
    if (!data)
        co_return fail_with(std::move(data.error()));
    if (auto backing = co_await co_open_backing(context, *options, *header); !backing)
        co_return fail_with(std::move(backing.error()));

    auto image =
        std::make_unique<Image>(**file, *data ? **data : **file, std::move(*header), std::move(*l1), *sizes, name);
    if (!context.flags().read_only) {
        image->writing = std::make_unique<WriteState>(*image, image->cache_owner(), std::move(reftable),
                                                      sizes->refcount_pieces * image->geometry().cluster_size());
        image->writing->pass_discards = context.flags().discard == Discard::Unmap;
        if (auto found = image->writing->find_metadata(); !found)
            co_return fail_with(std::move(found.error()));
    }
    co_return std::make_unique<Qcow2Driver>(context, std::move(*options), std::move(image));
}

const OptionSchema& schema() {
    return Qcow2Options::options();
}

int probe(std::span<const std::byte> head, std::string_view) {
    return probe_header(head);
}

}  // namespace

}  // namespace ashlar::qcow2

namespace ashlar {

const DriverType kQcow2Driver = {
    .name = "qcow2", .options = qcow2::schema, .co_open = qcow2::co_open, .probe = qcow2::probe};

}  // namespace ashlar
