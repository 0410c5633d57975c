#include "block/qcow2/truncate.h"

#include "block/qcow2/preallocate.h"
#include "block/qcow2/snapshots.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/byte_order.h"
#include "util/report.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

constexpr size_t kZeroBytes = 1 << 20;

// Makes a range read as zeroes, whatever that takes.
Task<int> co_make_zero(Image& image, BdrvChild* backing, uint64_t begin, uint64_t end) {
    if (begin >= end)
        co_return 0;
    int ret =
        co_await co_write_zeroes(image, backing, static_cast<int64_t>(begin), static_cast<int64_t>(end - begin), {});
    if (ret != -ENOTSUP)
        co_return ret;
    Buffer zeroes(std::min<uint64_t>(end - begin, kZeroBytes));
    std::ranges::fill(zeroes.span(), std::byte{0});
    for (; begin < end; begin += zeroes.size()) {
        iovec element{zeroes.data(), std::min<size_t>(zeroes.size(), end - begin)};
        ret = co_await co_write(image, backing, static_cast<int64_t>(begin), static_cast<int64_t>(element.iov_len),
                                IoVector(element));
        if (ret < 0)
            co_return ret;
    }
    co_return 0;
}

// With the lock held. The new table is written, and all that it refers to, before the header names it.
Task<int> co_grow_l1(Image& image, uint64_t entries) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    if (entries > kMaxL1Bytes / 8)
        co_return -EFBIG;
    uint64_t bytes = geometry.cluster_end(entries * 8), offset, got;
    if (int ret = co_await state.refcounts.co_allocate(bytes >> geometry.cluster_bits, true, offset, got); ret < 0)
        co_return ret;
    std::vector<uint64_t> table(entries);
    std::vector<std::byte> raw(bytes);
    for (uint64_t i = 0; i < image.l1.size(); i++) {
        table[i] = image.l1.get(i);
        store_be<uint64_t>(raw.data() + i * 8, table[i]);
    }
    int ret = co_await image.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(bytes), raw.data());
    if (ret == 0)
        ret = co_await state.co_flush();
    Header header = image.header;
    uint64_t old_offset = header.l1_offset, old_bytes = uint64_t{header.l1_size} * 8;
    header.l1_offset = offset;
    header.l1_size = static_cast<uint32_t>(entries);
    if (ret == 0)
        ret = co_await image.co_write_header(std::move(header));
    if (ret < 0) {
        state.refcounts.free_later(offset, bytes);
        co_return ret;
    }
    image.l1.replace(std::move(table));
    state.metadata.remove(old_offset, old_bytes);
    state.metadata.add(MetadataKind::L1, offset, bytes);
    if (old_bytes > 0)
        state.refcounts.free_later(old_offset, old_bytes);
    co_return 0;
}

Task<int> co_set_size(Image& image, uint64_t size) {
    auto guard = co_await image.writing->allocation_lock.co_lock();
    Header header = image.header;
    header.size = size;
    int ret = co_await image.co_write_header(std::move(header));
    if (ret == 0)
        image.length.set(static_cast<int64_t>(size));
    co_return ret;
}

// Everything but what the header says.
Task<int> co_prepare_growth(Image& image, BdrvChild* backing, uint64_t old, uint64_t size) {
    const Geometry& geometry = image.geometry();
    // What has been kept there beside the disk would be part of it, or what was left when making it smaller was broken
    // off.
    uint64_t mapped = image.l1.size() << (geometry.cluster_bits + geometry.l2_bits());
    if (int ret = co_await co_forget(image, static_cast<int64_t>(old), static_cast<int64_t>(mapped)); ret < 0)
        co_return ret;
    if (int ret = co_await co_extend_l1(image, geometry.l1_entries_for(size)); ret < 0)
        co_return ret;
    // What is behind the old end is zeroes, whatever has been left there, and however long the backing file is.
    uint64_t old_end = geometry.cluster_end(old);
    if (int ret = co_await co_make_zero(image, backing, old, std::min(old_end, size)); ret < 0)
        co_return ret;
    int64_t backing_length = backing ? backing->length() : 0;
    if (backing_length < 0)
        co_return static_cast<int>(backing_length);
    uint64_t seen = std::min(size, static_cast<uint64_t>(backing_length));
    co_return co_await co_make_zero(image, backing, old_end, geometry.cluster_end(seen));
}

// `shown`: it is part of the disk as it is.
Task<Result<>> co_grow_data_file(Image& image, uint64_t old, uint64_t size, PreallocMode prealloc, bool shown) {
    const int64_t there = image.data.length(), begin = static_cast<int64_t>(old), end = static_cast<int64_t>(size);
    if (shown && there > begin)  // such as a device, or when making it smaller was broken off
        if (int ret = co_await image.data.co_pwrite_zeroes(begin, std::min(there, end) - begin); ret < 0)
            co_return fail_errno(-ret, "Failed to clear the data file");
    if (there < end)
        co_return co_await image.data.co_truncate(end, false, mode_below(prealloc));
    co_return {};
}

Task<Result<>> co_grow(Image& image, BdrvChild* backing, uint64_t size, PreallocMode prealloc) {
    auto old = static_cast<uint64_t>(image.length.get());
    if (prealloc != PreallocMode::Off && backing && !image.geometry().extended_l2)
        co_return fail_errno(ENOTSUP,
                             "Backing file and preallocation can only be used at the same time if "
                             "extended_l2 is on");
    // A raw data file's clusters have their places from the beginning.
    PreallocMode mode = prealloc == PreallocMode::Off && image.data_file_raw ? PreallocMode::Metadata : prealloc;
    if (&image.data != &image.file)
        if (auto grown = co_await co_grow_data_file(image, old, size, prealloc, mode != PreallocMode::Off); !grown)
            co_return grown;
    if (int ret = co_await co_prepare_growth(image, backing, old, size); ret < 0)
        co_return fail_errno(-ret, "Failed to grow the image");
    if (auto done = co_await co_preallocate(image, image.geometry().cluster_end(old), size, mode); !done)
        co_return done;
    // All that is there now reads as zeroes from the moment on from which it is part of the disk.
    int ret = co_await image.writing->co_flush();
    if (ret == 0)
        ret = co_await co_set_size(image, size);
    if (ret < 0)
        co_return fail_errno(-ret, "Failed to update the image size");
    co_return {};
}

// L2 tables for nothing but what is behind the end of the disk, and the end of the file if nothing is left there.
Task<int> co_drop_tables(Image& image, uint64_t size) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    auto guard = co_await state.allocation_lock.co_lock();
    for (uint64_t i = geometry.l1_entries_for(size); i < image.l1.size(); i++) {
        uint64_t table = image.l1.get(i) & kOffsetMask;
        if (table == 0)
            continue;
        state.set_l1(i, 0);
        state.metadata.remove(table, geometry.cluster_size());
        state.refcounts.free_later(table, geometry.cluster_size());
    }
    co_return 0;
}

Task<int> co_cut_file(Image& image) {
    WriteState& state = *image.writing;
    auto guard = co_await state.allocation_lock.co_lock();
    uint64_t end = 0;
    if (int ret = co_await state.refcounts.co_find_end(end); ret < 0)
        co_return ret;
    if (static_cast<int64_t>(end) < image.file.length()) {
        // Advice: a file that stays longer does no harm.
        if (auto cut = co_await image.file.co_truncate(static_cast<int64_t>(end), false, PreallocMode::Off); cut)
            co_return 0;
        warn_report("{}: Failed to truncate the tail of the image", image.name);
    }
    co_return 0;
}

Task<Result<>> co_shrink(Image& image, uint64_t size) {
    auto old = static_cast<uint64_t>(image.length.get());
    if (int ret = co_await co_forget_vm_state(image); ret < 0)
        co_return fail_errno(-ret, "Failed to discard the VM state");
    if (int ret = co_await co_set_size(image, size); ret < 0)
        co_return fail_errno(-ret, "Failed to update the image size");
    int ret = co_await co_forget(image, static_cast<int64_t>(size), static_cast<int64_t>(old));
    if (ret < 0)
        co_return fail_errno(-ret, "Failed to discard cropped clusters");
    ret = co_await co_drop_tables(image, size);
    if (ret == 0)
        ret = co_await image.writing->co_settle();
    if (ret < 0)
        co_return fail_errno(-ret, "Failed to reduce the number of L2 tables");
    if (&image.data != &image.file)
        co_return co_await image.data.co_truncate(static_cast<int64_t>(size), false, PreallocMode::Off);
    if (ret = co_await co_cut_file(image); ret < 0)
        co_return fail_errno(-ret, "Failed to truncate the tail of the image");
    co_return {};
}

}  // namespace

Task<int> co_extend_l1(Image& image, uint64_t entries) {
    if (entries <= image.l1.size())
        co_return 0;
    auto guard = co_await image.writing->allocation_lock.co_lock();
    co_return entries > image.l1.size() ? co_await co_grow_l1(image, entries) : 0;
}

Task<Result<>> co_resize(Image& image, BdrvChild* backing, int64_t size, bool, PreallocMode prealloc) {
    if (size % static_cast<int64_t>(kSectorSize) != 0)
        co_return fail_errno(EINVAL, "The new size must be a multiple of {}", kSectorSize);
    // Its snapshots do not say how large the disk was.
    if (image.header_copy().snapshots > 0 && image.format.version < 3)
        co_return fail_errno(ENOTSUP, "Can't resize a v2 image which has snapshots");
    int64_t old = image.length.get();
    if (size < old && prealloc != PreallocMode::Off)
        co_return fail_errno(EINVAL, "Preallocation can't be used for shrinking an image");
    if (size > old)
        co_return co_await co_grow(image, backing, static_cast<uint64_t>(size), prealloc);
    if (size < old)
        co_return co_await co_shrink(image, static_cast<uint64_t>(size));
    co_return {};
}

}  // namespace ashlar::qcow2
