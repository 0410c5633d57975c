#include "block/qcow2/snapshot_table.h"

#include "block/block_types.h"
#include "util/byte_order.h"

#include <algorithm>

namespace ashlar::qcow2 {

namespace {

constexpr size_t kFixedBytes = 40;
constexpr size_t kKnownExtraBytes = 24;  // VM state size, disk size, icount

std::string text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Of the entry at the beginning of `in`; cuts it off.
Result<Snapshot> read_one(std::span<const std::byte>& in, const Header& header, uint32_t index, uint64_t file_length) {
    if (in.size() >= kFixedBytes)
        if (uint32_t extra = load_be<uint32_t>(in.data() + 36); extra > kMaxSnapshotExtraBytes)
            return fail("snapshot table: entry {}: {} bytes of extra data exceed the limit of {}", index, extra,
                        kMaxSnapshotExtraBytes);
    auto raw = read_raw_snapshot(in, header.size);
    if (!raw)
        return fail("snapshot table: it ends inside of entry {}", index);
    in = in.subspan(std::min<size_t>(raw->bytes, in.size()));
    Snapshot one = std::move(raw->snapshot);

    Geometry geometry = header.geometry();
    if (one.l1_size > kMaxL1Bytes / 8)
        return fail("snapshot {}: l1_size: {} entries exceed the limit of {} (32 MiB)", index, one.l1_size,
                    kMaxL1Bytes / 8);
    if (one.l1_size > 0 && (geometry.in_cluster(one.l1_offset) != 0 || one.l1_offset < geometry.cluster_size() ||
                            one.l1_offset > file_length || uint64_t{one.l1_size} * 8 > file_length - one.l1_offset))
        return fail("snapshot {}: the L1 table at {:#x} with {} entries is not inside the file", index, one.l1_offset,
                    one.l1_size);
    if (one.disk_bytes > static_cast<uint64_t>(kMaxLength))
        return fail("snapshot {}: disk size: {} bytes exceed the limit of {}", index, one.disk_bytes, kMaxLength);
    return one;
}

}  // namespace

std::optional<RawSnapshot> read_raw_snapshot(std::span<const std::byte> in, uint64_t disk_bytes) {
    if (in.size() < kFixedBytes)
        return std::nullopt;
    RawSnapshot raw{.extra_bytes = load_be<uint32_t>(in.data() + 36)};
    Snapshot& one = raw.snapshot;
    one.l1_offset = load_be<uint64_t>(in.data());
    one.l1_size = load_be<uint32_t>(in.data() + 8);
    size_t id_bytes = load_be<uint16_t>(in.data() + 12), name_bytes = load_be<uint16_t>(in.data() + 14);
    one.seconds = load_be<uint32_t>(in.data() + 16);
    one.nanoseconds = load_be<uint32_t>(in.data() + 20);
    one.vm_clock_ns = load_be<uint64_t>(in.data() + 24);
    one.vm_state_bytes = load_be<uint32_t>(in.data() + 32);
    one.disk_bytes = disk_bytes;
    size_t id_at = kFixedBytes + size_t{raw.extra_bytes}, bytes = id_at + id_bytes + name_bytes;
    if (in.size() < bytes)
        return std::nullopt;
    raw.bytes = (bytes + 7) / 8 * 8;
    auto extra = in.subspan(kFixedBytes, std::min(raw.extra_bytes, kMaxSnapshotExtraBytes));
    if (extra.size() >= 8)
        one.vm_state_bytes = load_be<uint64_t>(extra.data());
    if (extra.size() >= 16)
        one.disk_bytes = load_be<uint64_t>(extra.data() + 8);
    if (extra.size() >= kKnownExtraBytes) {
        one.icount = static_cast<int64_t>(load_be<uint64_t>(extra.data() + 16));
        one.unknown_extra.assign(extra.begin() + kKnownExtraBytes, extra.end());
    }
    one.id = text(in.subspan(id_at, id_bytes));
    one.name = text(in.subspan(id_at + id_bytes, name_bytes));
    return raw;
}

Result<std::vector<Snapshot>> read_snapshots(std::span<const std::byte> table, const Header& header,
                                             uint64_t file_length, uint64_t& table_bytes) {
    std::vector<Snapshot> snapshots;
    auto rest = table.first(std::min<size_t>(table.size(), kMaxSnapshotTableBytes));
    size_t size = rest.size();
    for (uint32_t i = 0; i < header.snapshots; i++) {
        auto one = read_one(rest, header, i, file_length);
        if (!one)
            return std::unexpected(std::move(one.error()));
        snapshots.push_back(std::move(*one));
    }
    table_bytes = size - rest.size();
    return snapshots;
}

std::vector<std::byte> write_snapshots(std::span<const Snapshot> snapshots) {
    std::vector<std::byte> out;
    for (const Snapshot& one : snapshots) {
        size_t at = out.size();
        size_t extra = kKnownExtraBytes + one.unknown_extra.size();
        size_t bytes = kFixedBytes + extra + one.id.size() + one.name.size();
        out.resize(at + (bytes + 7) / 8 * 8);
        std::byte* to = out.data() + at;
        store_be<uint64_t>(to, one.l1_offset);
        store_be<uint32_t>(to + 8, one.l1_size);
        store_be<uint16_t>(to + 12, static_cast<uint16_t>(one.id.size()));
        store_be<uint16_t>(to + 14, static_cast<uint16_t>(one.name.size()));
        store_be<uint32_t>(to + 16, one.seconds);
        store_be<uint32_t>(to + 20, one.nanoseconds);
        store_be<uint64_t>(to + 24, one.vm_clock_ns);
        // The old field, for who does not know the extra one.
        store_be<uint32_t>(to + 32, static_cast<uint32_t>(std::min<uint64_t>(one.vm_state_bytes, UINT32_MAX)));
        store_be<uint32_t>(to + 36, static_cast<uint32_t>(extra));
        store_be<uint64_t>(to + 40, one.vm_state_bytes);
        store_be<uint64_t>(to + 48, one.disk_bytes);
        store_be<uint64_t>(to + 56, static_cast<uint64_t>(one.icount));
        std::byte* behind = std::ranges::copy(one.unknown_extra, to + kFixedBytes + kKnownExtraBytes).out;
        behind = std::ranges::copy(std::as_bytes(std::span(one.id)), behind).out;
        std::ranges::copy(std::as_bytes(std::span(one.name)), behind);
    }
    return out;
}

}  // namespace ashlar::qcow2
