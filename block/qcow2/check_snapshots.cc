#include "block/qcow2/check.h"
#include "block/qcow2/snapshot_table.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>
#include <cerrno>
#include <optional>

namespace ashlar::qcow2 {

namespace {

constexpr uint64_t kLeastEntry = 40;   // bytes
constexpr uint32_t kNeededExtra = 16;  // VM state size and disk size
constexpr size_t kFirstRead = 64 << 10;

// The beginning of the table, as far as its entries reach.
struct Table {
    std::vector<std::byte> bytes;
    uint64_t used = 0;
    std::vector<Snapshot> snapshots;
    std::vector<L1Place> places;
    int64_t repairs = 0;  // that a new table makes true
};

// Whether there can be an L1 table where the entry says.
bool has_place(Check& check, const Snapshot& one) {
    const Geometry& geometry = check.image.geometry();
    std::string_view wrong;
    if (one.l1_size > kMaxL1Bytes / 8)
        wrong = "L1 table is too large";
    else if (one.l1_size > 0 && geometry.in_cluster(one.l1_offset) != 0)
        wrong = "L1 table is not cluster aligned";
    else if (one.l1_size > 0 && one.l1_offset < geometry.cluster_size())
        wrong = "L1 table overlaps with the header";
    if (!wrong.empty())
        check.corruption(" snapshot {} ({}) l1_offset={:#x} l1_size={:#x}: {}; snapshot table entry corrupted", one.id,
                         one.name, one.l1_offset, one.l1_size, wrong);
    return wrong.empty();
}

// More entries than there may be are cut off by a repair.
bool cut_overhang(Check& check, Table& table, uint32_t overhang) {
    if (!check.fixes_all()) {
        check.say("ERROR snapshot table too large");
        check.say("You can force-remove all {} overhanging snapshots with qemu-img check -r all", overhang);
        return false;
    }
    check.say("Discarding {} overhanging snapshots", overhang);
    check.result.corruptions_fixed += overhang;
    table.repairs += overhang;
    return true;
}

// The next entry: false if the table must be longer.
bool read_entry(Check& check, Table& table) {
    auto rest = std::span<const std::byte>(table.bytes).subspan(std::min<size_t>(table.used, table.bytes.size()));
    auto raw = read_raw_snapshot(rest, check.image.header.size);
    if (!raw)
        return false;
    const size_t index = table.snapshots.size();
    if (raw->extra_bytes > kMaxSnapshotExtraBytes)
        table.repairs +=
            check.repairs(check.fixes_all(), " snapshot table entry {} has too much extra metadata ({} > {})", index,
                          raw->extra_bytes, kMaxSnapshotExtraBytes);
    if (check.image.format.version >= 3 && raw->extra_bytes < kNeededExtra)
        table.repairs += check.repairs(check.fixes_all(), " snapshot table entry {} is incomplete", index);
    if (has_place(check, raw->snapshot))
        table.places.push_back({raw->snapshot.l1_offset, raw->snapshot.l1_size});
    else
        check.incomplete = true;
    table.used += raw->bytes;
    table.snapshots.push_back(std::move(raw->snapshot));
    return true;
}

Task<int> co_read_more(Check& check, Table& table) {
    uint64_t offset = check.image.header.snapshots_offset;
    uint64_t limit = offset < check.file_length ? std::min(check.file_length - offset, kMaxSnapshotTableBytes) : 0;
    size_t have = table.bytes.size();
    if (have >= limit)
        co_return -EIO;
    size_t want = std::min<size_t>(limit, std::max(kFirstRead, have * 2));
    table.bytes.resize(want);
    co_return co_await check.co_read(offset + have, std::span(table.bytes).subspan(have));
}

}  // namespace

Task<int> co_count_snapshots(Check& check, std::vector<L1Place>& l1_tables) {
    const Header& header = check.image.header;
    if (header.snapshots == 0)
        co_return 0;
    Table table;
    const uint32_t entries = std::min(header.snapshots, kMaxSnapshots);
    if (entries < header.snapshots && !cut_overhang(check, table, header.snapshots - entries))
        co_return -EFBIG;
    bool ends = false;
    while (table.snapshots.size() < entries && !ends) {
        if (read_entry(check, table))
            continue;
        int ret = co_await co_read_more(check, table);
        ends = ret == -EIO;
        if (ret < 0 && !ends)
            co_return ret;
    }
    if (size_t lost = entries - table.snapshots.size(); lost > 0) {
        if (check.repairs(check.fixes_all(), " the snapshot table ends before {} of its {} entries", lost, entries))
            table.repairs++;
        else
            check.incomplete = true;
    }
    if (!table.snapshots.empty() || !check.fixes_all())  // else there is to be none
        check.count(header.snapshots_offset, std::max(table.used, kLeastEntry));
    if (table.repairs > 0)
        check.new_snapshots = {std::move(table.snapshots), table.used, table.repairs};
    l1_tables.insert(l1_tables.end(), table.places.begin(), table.places.end());
    co_return 0;
}

}  // namespace ashlar::qcow2
