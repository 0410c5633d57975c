// The snapshot table of a qcow2 image: bytes to Snapshots and back. Pure functions; input is hostile. Specification:
// "Snapshots".
#pragma once

#include "block/qcow2/header.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ashlar::qcow2 {

constexpr uint64_t kMaxSnapshotTableBytes = 64 << 20;
constexpr uint32_t kMaxSnapshotExtraBytes = 1024;

struct Snapshot {
    uint64_t l1_offset = 0;
    uint32_t l1_size = 0;  // entries
    std::string id;
    std::string name;
    uint32_t seconds = 0;  // when it was taken, since the Epoch
    uint32_t nanoseconds = 0;
    uint64_t vm_clock_ns = 0;
    uint64_t vm_state_bytes = 0;
    uint64_t disk_bytes = 0;
    int64_t icount = -1;
    std::vector<std::byte> unknown_extra;  // kept as it is
};

// An entry as it is, whatever it says.
struct RawSnapshot {
    Snapshot snapshot;         // with kMaxSnapshotExtraBytes of extra data at most
    uint32_t extra_bytes = 0;  // that the entry has
    uint64_t bytes = 0;        // of the table that it takes
};
// The one at the beginning of `table`; `disk_bytes` if it does not say how large the disk was. Nothing: the table ends
// before it.
std::optional<RawSnapshot> read_raw_snapshot(std::span<const std::byte> table, uint64_t disk_bytes);

// Reads `header.snapshots` entries from the beginning of `table`, which is what the file has from
// header.snapshots_offset on, kMaxSnapshotTableBytes at most. `table_bytes` is how many of them they take.
Result<std::vector<Snapshot>> read_snapshots(std::span<const std::byte> table, const Header& header,
                                             uint64_t file_length, uint64_t& table_bytes);

std::vector<std::byte> write_snapshots(std::span<const Snapshot> snapshots);

}  // namespace ashlar::qcow2
