#include "block/qcow2/truncate.h"

#include "block/qcow2/snapshots.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/byte_order.h"

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
        co_await co_write_zeroes(image, backing, static_cast<int64_t>(begin), static_cast<int64_t>(end - begin), false);
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

Task<int> co_truncate_data_file(Image& image, uint64_t size) {
    auto done = co_await image.data.co_truncate(static_cast<int64_t>(size), false, PreallocMode::Off);
    co_return done ? 0 : -(done.error().code > 0 ? done.error().code : EIO);
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

Task<int> co_grow(Image& image, BdrvChild* backing, uint64_t size) {
    const Geometry& geometry = image.geometry();
    auto old = static_cast<uint64_t>(image.length.get());
    // What has been kept there beside the disk would be part of it.
    if (int ret = co_await co_forget_vm_state(image); ret < 0)
        co_return ret;
    if (int ret = co_await co_extend_l1(image, geometry.l1_entries_for(size)); ret < 0)
        co_return ret;
    if (&image.data != &image.file && image.data.length() < static_cast<int64_t>(size))
        if (int ret = co_await co_truncate_data_file(image, size); ret < 0)
            co_return ret;
    // What is behind the old end is zeroes, whatever has been left there, and however long the backing file is.
    uint64_t old_end = geometry.cluster_end(old);
    if (int ret = co_await co_make_zero(image, backing, old, std::min(old_end, size)); ret < 0)
        co_return ret;
    int64_t backing_length = backing ? backing->length() : 0;
    if (backing_length < 0)
        co_return static_cast<int>(backing_length);
    uint64_t seen = std::min(size, static_cast<uint64_t>(backing_length));
    if (int ret = co_await co_make_zero(image, backing, old_end, geometry.cluster_end(seen)); ret < 0)
        co_return ret;
    co_return co_await co_set_size(image, size);
}

}  // namespace

Task<int> co_extend_l1(Image& image, uint64_t entries) {
    if (entries <= image.l1.size())
        co_return 0;
    auto guard = co_await image.writing->allocation_lock.co_lock();
    co_return entries > image.l1.size() ? co_await co_grow_l1(image, entries) : 0;
}

Task<int> co_resize(Image& image, BdrvChild* backing, int64_t size) {
    if (size % static_cast<int64_t>(kSectorSize) != 0)
        co_return -EINVAL;
    if (image.header_copy().snapshots > 0 && image.format.version < 3)
        co_return -ENOTSUP;  // a version 2 snapshot does not say how large the disk was
    int64_t old = image.length.get();
    if (size >= old)
        co_return size == old ? 0 : co_await co_grow(image, backing, static_cast<uint64_t>(size));
    if (int ret = co_await co_set_size(image, static_cast<uint64_t>(size)); ret < 0)
        co_return ret;
    if (int ret = co_await co_forget(image, size, old); ret < 0)
        co_return ret;
    if (&image.data != &image.file)
        co_return co_await co_truncate_data_file(image, static_cast<uint64_t>(size));
    co_return 0;
}

}  // namespace ashlar::qcow2
