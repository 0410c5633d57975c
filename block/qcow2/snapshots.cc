#include "block/qcow2/snapshots.h"

#include "block/qcow2/open.h"
#include "block/qcow2/read.h"
#include "block/qcow2/table_tree.h"
#include "block/qcow2/truncate.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace ashlar::qcow2 {

namespace {

constexpr size_t kFirstTableRead = 64 << 10;

auto find(std::vector<Snapshot>& snapshots, const std::string& id) {
    return std::ranges::find(snapshots, id, &Snapshot::id);
}

std::unexpected<Error> fail_unknown(const std::string& id) {
    Error error{fmt::format("Can't find snapshot '{}'", id), {}, ENOENT};
    return std::unexpected(std::move(error));
}

// The smallest number behind all that are in use.
std::string next_id(const std::vector<Snapshot>& snapshots) {
    uint64_t largest = 0;
    for (const Snapshot& one : snapshots) {
        uint64_t number = 0;
        std::from_chars(one.id.data(), one.id.data() + one.id.size(), number);
        largest = std::max(largest, number);
    }
    return std::to_string(largest + 1);
}

std::vector<uint64_t> active_l1(const Image& image) {
    std::vector<uint64_t> entries(image.l1.size());
    for (size_t i = 0; i < entries.size(); i++)
        entries[i] = image.l1.get(i);
    return entries;
}

// A new L1 table with these entries, none of which is the table's alone; 0 if there are none. With the lock held.
Task<int> co_write_l1(Image& image, std::span<const uint64_t> entries, uint64_t& offset) {
    offset = 0;
    if (entries.empty())
        co_return 0;
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    uint64_t bytes = geometry.cluster_end(entries.size() * 8), got;
    if (int ret = co_await state.refcounts.co_allocate(bytes >> geometry.cluster_bits, true, offset, got); ret < 0)
        co_return ret;
    Buffer table = Buffer::try_alloc(bytes);
    int ret = table ? 0 : -ENOMEM;
    if (ret == 0) {
        std::ranges::fill(table.span(), std::byte{0});
        for (size_t i = 0; i < entries.size(); i++)
            store_be<uint64_t>(table.data() + i * 8, entries[i] & ~kCopied);
        ret = co_await image.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(bytes), table.data());
    }
    if (ret < 0)
        state.refcounts.free_later(offset, bytes);
    co_return ret;
}

std::unexpected<Error> fail_step(int ret, std::string_view what) {
    if (ret == -ERANGE)
        return fail_errno(EINVAL, "{}: a reference count does not fit into its bits", what);
    return fail_errno(-ret, "{}", what);
}

Task<Result<std::vector<uint64_t>>> co_load_l1(const Image& image, const Snapshot& snapshot) {
    co_return co_await co_load_table(image.file, "the snapshot's L1 table", snapshot.l1_offset, snapshot.l1_size);
}

// While counts and flags do not agree.
class Transition {
public:
    explicit Transition(Image& image) : state_(*image.writing), was_dirty_(image.header.has(kDirty)) {}

    [[nodiscard]] Task<int> co_begin() {
        if (int ret = co_await state_.co_settle(); ret < 0)
            co_return ret;
        co_return was_dirty_ ? 0 : co_await state_.co_set_dirty(true);
    }
    // What has been freed is free, the flags are right, and all of it is on the disk.
    [[nodiscard]] Task<int> co_end() {
        int ret = co_await state_.co_settle();
        if (ret == 0)
            ret = co_await co_update_locked();
        if (ret == 0)
            ret = co_await state_.co_settle();
        if (ret == 0 && !was_dirty_)
            ret = co_await state_.co_set_dirty(false);
        if (ret == 0) {  // what overlaps does so since before
            (void)state_.find_metadata();
            (void)co_await state_.co_find_inactive_tables();
        }
        co_return ret;
    }

private:
    Task<int> co_update_locked() {
        auto guard = co_await state_.allocation_lock.co_lock();
        co_return co_await co_update_copied(state_.image);
    }

    WriteState& state_;
    const bool was_dirty_;
};

// The changes of a new snapshot up to where its table is on the disk.
Task<Result<void>> co_copy_tables(Image& image, Snapshot& snapshot) {
    WriteState& state = *image.writing;
    const std::vector<uint64_t> entries = active_l1(image);
    {
        auto guard = co_await state.allocation_lock.co_lock();
        if (int ret = co_await co_reference_tree(image, entries); ret < 0)
            co_return fail_step(ret, "Could not create snapshot");
        int ret = co_await co_update_copied(image);
        if (ret == 0)
            ret = co_await co_write_l1(image, entries, snapshot.l1_offset);
        if (ret < 0) {
            (void)co_await co_unreference_tree(image, entries);
            co_return fail_step(ret, "Could not create snapshot");
        }
    }
    snapshot.l1_size = static_cast<uint32_t>(entries.size());
    if (int ret = co_await state.co_flush_all(); ret < 0)
        co_return fail_step(ret, "Could not create snapshot");
    co_return {};
}

// Gives back what the snapshot refers to.
Task<int> co_release(Image& image, std::vector<uint64_t> l1, uint64_t l1_offset) {
    WriteState& state = *image.writing;
    auto guard = co_await state.allocation_lock.co_lock();
    int ret = co_await co_unreference_tree(image, l1);
    if (!l1.empty())
        state.refcounts.free_later(l1_offset, l1.size() * 8);
    co_return ret;
}

}  // namespace

uint64_t vm_state_base(const Image& image) {
    const Geometry& geometry = image.geometry();
    return geometry.l1_entries_for(static_cast<uint64_t>(image.length.get()))
           << (geometry.cluster_bits + geometry.l2_bits());
}

std::vector<ImageSnapshot> list_snapshots(const Image& image) {
    std::vector<ImageSnapshot> list;
    for (const Snapshot& one : image.snapshots)
        list.push_back({.id = one.id,
                        .name = one.name,
                        .vm_state_size = one.vm_state_bytes,
                        .date_seconds = one.seconds,
                        .date_nanoseconds = one.nanoseconds,
                        .vm_clock_ns = one.vm_clock_ns,
                        .icount = one.icount >= 0 ? std::optional(static_cast<uint64_t>(one.icount)) : std::nullopt,
                        .disk_size = one.disk_bytes});
    return list;
}

Task<Result<void>> co_load_snapshots(Image& image) {
    image.snapshots.clear();
    image.snapshot_table_bytes = 0;
    const Header& header = image.header;
    if (header.snapshots == 0)
        co_return {};
    if (header.snapshots > kMaxSnapshots)  // which only a check gets to see
        co_return fail("Snapshot table too large");
    int64_t length = image.file.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get image size");
    uint64_t there = static_cast<uint64_t>(length) - std::min(static_cast<uint64_t>(length), header.snapshots_offset);
    there = std::min(there, kMaxSnapshotTableBytes);
    // It does not say how long it is.
    for (uint64_t bytes = std::min<uint64_t>(there, kFirstTableRead);; bytes = std::min(there, bytes * 8)) {
        Buffer table = Buffer::try_alloc(std::max<uint64_t>(bytes, 1));
        if (!table)
            co_return fail_errno(ENOMEM, "Could not read snapshots");
        int ret = bytes == 0 ? 0
                             : co_await image.file.co_pread(static_cast<int64_t>(header.snapshots_offset),
                                                            static_cast<int64_t>(bytes), table.data());
        if (ret < 0)
            co_return fail_errno(-ret, "Could not read snapshots");
        auto snapshots = read_snapshots(table.span().first(bytes), header, static_cast<uint64_t>(length),
                                        image.snapshot_table_bytes);
        if (snapshots) {
            image.snapshots = std::move(*snapshots);
            co_return {};
        }
        if (bytes == there)
            co_return std::unexpected(std::move(snapshots.error()));
    }
}

Task<Result<void>> co_store_snapshots(Image& image, std::vector<Snapshot> snapshots) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    std::vector<std::byte> table = write_snapshots(snapshots);
    if (table.size() > kMaxSnapshotTableBytes)
        co_return fail_errno(EFBIG, "the snapshot table would have {} bytes", table.size());
    auto guard = co_await state.allocation_lock.co_lock();
    const uint64_t old_offset = image.header.snapshots_offset, old_bytes = image.snapshot_table_bytes;
    const uint64_t bytes = table.size();
    uint64_t offset = 0, got;
    int ret = 0;
    if (bytes > 0) {
        ret = co_await state.refcounts.co_allocate(geometry.clusters(bytes), true, offset, got);
        if (ret < 0)
            co_return fail_errno(-ret, "no room for the snapshot table");
        table.resize(geometry.cluster_end(bytes));
        ret = co_await image.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(table.size()),
                                            table.data());
    }
    if (ret == 0)
        ret = co_await state.co_flush_all();
    Header header = image.header;
    header.snapshots = static_cast<uint32_t>(snapshots.size());
    header.snapshots_offset = offset;
    if (ret == 0)
        ret = co_await image.co_write_header(std::move(header));
    if (ret < 0) {
        if (bytes > 0)
            state.refcounts.free_later(offset, bytes);
        co_return fail_errno(-ret, "could not write the snapshot table");
    }
    image.snapshots = std::move(snapshots);
    image.snapshot_table_bytes = bytes;
    if (old_bytes > 0) {
        state.metadata.remove(old_offset, old_bytes);
        state.refcounts.free_later(old_offset, old_bytes);
    }
    if (bytes > 0)
        state.metadata.add(MetadataKind::Snapshots, offset, bytes);
    co_return {};
}

Task<Result<void>> co_create_snapshot(Image& image, ImageSnapshot wanted) {
    if (image.format.data_file)
        co_return fail_errno(ENOTSUP, "Could not create snapshot: the image has an external data file");
    if (image.snapshots.size() >= kMaxSnapshots)
        co_return fail_errno(EFBIG, "Could not create snapshot: there are {} of them", image.snapshots.size());
    if (wanted.id.empty())
        wanted.id = next_id(image.snapshots);
    if (find(image.snapshots, wanted.id) != image.snapshots.end())
        co_return fail_errno(EEXIST, "Could not create snapshot: there is one with the ID '{}'", wanted.id);
    if (wanted.id.size() > UINT16_MAX || wanted.name.size() > UINT16_MAX)
        co_return fail_errno(ENAMETOOLONG, "Could not create snapshot");
    Snapshot snapshot{.id = std::move(wanted.id),
                      .name = std::move(wanted.name),
                      .seconds = static_cast<uint32_t>(wanted.date_seconds),
                      .nanoseconds = wanted.date_nanoseconds,
                      .vm_clock_ns = wanted.vm_clock_ns,
                      .vm_state_bytes = image.writing->vm_state_bytes,
                      .disk_bytes = static_cast<uint64_t>(image.length.get()),
                      .icount = wanted.icount ? static_cast<int64_t>(*wanted.icount) : -1};
    Transition transition(image);
    if (int ret = co_await transition.co_begin(); ret < 0)
        co_return fail_step(ret, "Could not create snapshot");
    auto done = co_await co_copy_tables(image, snapshot);
    if (done) {
        std::vector<Snapshot> all = image.snapshots;
        all.push_back(snapshot);
        done = co_await co_store_snapshots(image, std::move(all));
        if (!done)
            (void)co_await co_release(image, active_l1(image), snapshot.l1_offset);
    }
    // The state of the machine is the snapshot's now.
    if (uint64_t bytes = done ? std::exchange(image.writing->vm_state_bytes, 0) : 0; bytes > 0)
        if (int ret = co_await co_forget_vm_state(image); ret < 0)
            done = fail_step(ret, "Could not discard the VM state");
    int ret = co_await transition.co_end();
    if (done && ret < 0)
        done = fail_step(ret, "Could not create snapshot");
    co_return done;
}

Task<Result<void>> co_apply_snapshot(Image& image, std::string id) {
    auto found = find(image.snapshots, id);
    if (found == image.snapshots.end())
        co_return fail_unknown(id);
    if (image.format.data_file)
        co_return fail_errno(ENOTSUP, "Could not apply snapshot: the image has an external data file");
    const Snapshot snapshot = *found;
    auto l1 = co_await co_load_l1(image, snapshot);
    if (!l1)
        co_return std::unexpected(std::move(l1.error()));
    const Geometry& geometry = image.geometry();
    l1->resize(std::max<uint64_t>(l1->size(), geometry.l1_entries_for(snapshot.disk_bytes)));

    WriteState& state = *image.writing;
    Transition transition(image);
    if (int ret = co_await transition.co_begin(); ret < 0)
        co_return fail_step(ret, "Could not apply snapshot");
    const std::vector<uint64_t> old = active_l1(image);
    const uint64_t old_offset = image.l1_offset;
    int ret = 0;
    {
        auto guard = co_await state.allocation_lock.co_lock();
        ret = co_await co_reference_tree(image, *l1);
        uint64_t offset = 0;
        if (ret == 0) {
            ret = co_await co_write_l1(image, *l1, offset);
            if (ret == 0)
                ret = co_await state.co_flush_all();
            Header header = image.header;
            header.l1_offset = offset;
            header.l1_size = static_cast<uint32_t>(l1->size());
            header.size = snapshot.disk_bytes;
            if (ret == 0)
                ret = co_await image.co_write_header(std::move(header));
            if (ret < 0)
                (void)co_await co_unreference_tree(image, *l1);
        }
        if (ret == 0) {
            for (uint64_t& entry : *l1)
                entry &= ~kCopied;
            image.l1.replace(std::move(*l1));
            image.length.set(static_cast<int64_t>(snapshot.disk_bytes));
            state.vm_state_bytes = 0;
            (void)state.find_metadata();  // what overlaps there did so before
        }
    }
    if (ret == 0)
        ret = co_await co_release(image, old, old_offset);
    int ended = co_await transition.co_end();
    if (ret == 0)
        ret = ended;
    if (ret < 0)
        co_return fail_step(ret, "Could not apply snapshot");
    co_return {};
}

Task<Result<void>> co_delete_snapshot(Image& image, std::string id) {
    auto found = find(image.snapshots, id);
    if (found == image.snapshots.end())
        co_return fail_unknown(id);
    const Snapshot snapshot = *found;
    auto l1 = co_await co_load_l1(image, snapshot);
    if (!l1)
        co_return std::unexpected(std::move(l1.error()));
    Transition transition(image);
    if (int ret = co_await transition.co_begin(); ret < 0)
        co_return fail_step(ret, "Could not delete snapshot");
    std::vector<Snapshot> rest = image.snapshots;
    rest.erase(find(rest, id));
    auto done = co_await co_store_snapshots(image, std::move(rest));
    int ret = done ? co_await co_release(image, std::move(*l1), snapshot.l1_offset) : 0;
    int ended = co_await transition.co_end();
    if (!done)
        co_return done;
    if (ret == 0)
        ret = ended;
    if (ret < 0)
        co_return fail_step(ret, "Could not delete snapshot");
    co_return {};
}

Task<Result<void>> co_show_snapshot(Image& image, std::string id) {
    auto found = find(image.snapshots, id);
    if (found == image.snapshots.end())
        co_return fail_unknown(id);
    auto l1 = co_await co_load_l1(image, *found);
    if (!l1)
        co_return std::unexpected(std::move(l1.error()));
    image.l1.replace(std::move(*l1));
    image.length.set(static_cast<int64_t>(found->disk_bytes));
    co_return {};
}

Task<int> co_forget_vm_state(Image& image) {
    const Geometry& geometry = image.geometry();
    uint64_t base = vm_state_base(image), end = image.l1.size() << (geometry.cluster_bits + geometry.l2_bits());
    if (base >= end)
        co_return 0;
    co_return co_await co_forget(image, static_cast<int64_t>(base), static_cast<int64_t>(end));
}

Task<int> co_write_vm_state(Image& image, int64_t offset, std::span<const std::byte> data) {
    if (data.empty())
        co_return 0;
    const Geometry& geometry = image.geometry();
    uint64_t begin = vm_state_base(image) + static_cast<uint64_t>(offset), end = begin + data.size();
    if (offset < 0 || end > static_cast<uint64_t>(kMaxLength))
        co_return -EFBIG;
    if (int ret = co_await co_extend_l1(image, geometry.l1_entries_for(end)); ret < 0)
        co_return ret;
    iovec element{const_cast<std::byte*>(data.data()), data.size()};
    int ret = co_await co_write(image, nullptr, static_cast<int64_t>(begin), static_cast<int64_t>(data.size()),
                                IoVector(element));
    if (ret == 0)
        image.writing->vm_state_bytes =
            std::max(image.writing->vm_state_bytes, static_cast<uint64_t>(offset) + data.size());
    co_return ret;
}

Task<int> co_read_vm_state(Image& image, int64_t offset, std::span<std::byte> data) {
    uint64_t begin = vm_state_base(image) + static_cast<uint64_t>(offset);
    if (offset < 0 || begin + data.size() > static_cast<uint64_t>(kMaxLength))
        co_return -EFBIG;
    if (data.empty())
        co_return 0;
    iovec element{data.data(), data.size()};
    co_return co_await co_read(image, nullptr, static_cast<int64_t>(begin), static_cast<int64_t>(data.size()),
                               IoVector(element));
}

}  // namespace ashlar::qcow2
