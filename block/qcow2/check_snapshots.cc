#include "block/qcow2/check.h"
#include "block/qcow2/snapshot_table.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>
#include <cerrno>
#include <optional>

namespace ashlar::qcow2 {

namespace {

constexpr size_t kFixedBytes = 40;
constexpr size_t kNeededExtra = 16;  // VM state size and disk size
constexpr size_t kFirstRead = 64 << 10;

// The beginning of the table, as far as its entries reach; `broken` is the first that is not whole.
struct Table {
    std::vector<std::byte> bytes;
    uint64_t used = 0;
    std::vector<L1Place> places;
    std::vector<uint32_t> without_extra;  // which a version 3 image must have
    std::optional<uint32_t> broken;
};

// The next entry: false if the table must be longer.
bool read_entry(const Check& check, Table& table) {
    auto rest = std::span<const std::byte>(table.bytes).subspan(std::min<size_t>(table.used, table.bytes.size()));
    if (rest.size() < kFixedBytes)
        return false;
    uint64_t l1_offset = load_be<uint64_t>(rest.data());
    uint32_t l1_size = load_be<uint32_t>(rest.data() + 8);
    uint32_t extra = load_be<uint32_t>(rest.data() + 36);
    size_t bytes =
        kFixedBytes + size_t{extra} + load_be<uint16_t>(rest.data() + 12) + load_be<uint16_t>(rest.data() + 14);
    const Geometry& geometry = check.image.geometry();
    if (extra > kMaxSnapshotExtraBytes || l1_size > kMaxL1Bytes / 8 ||
        (l1_size > 0 && (geometry.in_cluster(l1_offset) != 0 || l1_offset < geometry.cluster_size()))) {
        table.broken = static_cast<uint32_t>(table.places.size());
        return true;
    }
    if (rest.size() < bytes)
        return false;
    if (check.image.format.version >= 3 && extra < kNeededExtra)
        table.without_extra.push_back(static_cast<uint32_t>(table.places.size()));
    table.places.push_back({l1_offset, l1_size});
    table.used += (bytes + 7) / 8 * 8;
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
    while (table.places.size() < header.snapshots && !table.broken) {
        if (read_entry(check, table))
            continue;
        int ret = co_await co_read_more(check, table);
        if (ret == -EIO)  // the file ends
            table.broken = static_cast<uint32_t>(table.places.size());
        else if (ret < 0)
            co_return ret;
    }
    if (table.broken) {
        check.corruption(" snapshot table entry {} makes no sense", *table.broken);
        check.incomplete = true;
    }
    for (uint32_t i : table.without_extra)
        check.corruption(" snapshot table entry {} is incomplete", i);
    check.count(header.snapshots_offset, std::max<uint64_t>(table.used, kFixedBytes));
    l1_tables.insert(l1_tables.end(), table.places.begin(), table.places.end());
    co_return 0;
}

}  // namespace ashlar::qcow2
