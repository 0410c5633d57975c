// The snapshot table of a qcow2 image: what is accepted is within the limits, and is read again as it was when written.
// One byte says how many entries there are.
#include <cassert>
#include <cstdint>

#include "block/block_types.h"
#include "block/qcow2/snapshot_table.h"

using namespace ashlar;
using namespace ashlar::qcow2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1)
        return 0;
    constexpr uint64_t kFileLength = 1 << 30;
    Header header;
    header.size = 1 << 20;
    header.cluster_bits = 9;
    header.snapshots = data[0];
    auto table = std::as_bytes(std::span(data + 1, size - 1));
    uint64_t bytes = 0;
    auto snapshots = read_snapshots(table, header, kFileLength, bytes);
    if (!snapshots)
        return 0;
    assert(snapshots->size() == header.snapshots && bytes <= table.size());
    for (const Snapshot& one : *snapshots) {
        assert(one.l1_size == 0 || one.l1_offset + uint64_t{one.l1_size} * 8 <= kFileLength);
        assert(one.disk_bytes <= static_cast<uint64_t>(kMaxLength));
    }
    auto written = write_snapshots(*snapshots);
    auto again = read_snapshots(written, header, kFileLength, bytes);
    assert(again && bytes == written.size());
    for (size_t i = 0; i < again->size(); i++) {
        const Snapshot &a = (*snapshots)[i], &b = (*again)[i];
        assert(a.id == b.id && a.name == b.name && a.l1_offset == b.l1_offset && a.l1_size == b.l1_size);
        assert(a.disk_bytes == b.disk_bytes && a.vm_state_bytes == b.vm_state_bytes && a.icount == b.icount);
        assert(a.seconds == b.seconds && a.nanoseconds == b.nanoseconds && a.vm_clock_ns == b.vm_clock_ns);
        assert(a.unknown_extra == b.unknown_extra);
    }
    return 0;
}
