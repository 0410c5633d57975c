// L2 entries as a hostile image has them. Three bytes choose geometry, version and where to begin; the rest are
// entries.
#include <cassert>
#include <cstdint>
#include <span>

#include "block/qcow2/l2_entry.h"

using namespace ashlar::qcow2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 3)
        return 0;
    L2Format format;
    format.geometry.cluster_bits = kMinClusterBits + data[0] % (kMaxClusterBits - kMinClusterBits + 1);
    format.geometry.extended_l2 = (data[1] & 1) && format.geometry.cluster_bits >= kMinExtendedL2ClusterBits;
    format.version = data[1] & 2 ? 3 : 2;
    format.data_file = data[1] & 4;
    uint64_t guest = uint64_t{data[2]} << (format.geometry.cluster_bits - 6);
    auto entries = std::as_bytes(std::span(data + 3, size - 3));
    size_t entry_bytes = format.geometry.l2_entry_bytes();
    entries = entries.first(entries.size() / entry_bytes * entry_bytes);
    uint64_t within = format.geometry.in_cluster(guest);
    uint64_t whole = entries.size() / entry_bytes << format.geometry.cluster_bits;
    uint64_t left = whole > within ? whole - within : 0;
    while (left > 0) {
        Run run = decode_run(entries, guest, left, format);
        assert(run.bytes > 0 && run.bytes <= left);
        if (has_host_cluster(run.kind))
            assert((run.host - guest) % format.geometry.subcluster_size() == 0 && run.host + run.bytes > run.host);
        if (run.kind == Kind::Compressed) {
            CompressedExtent extent = compressed_extent(run.entry, format.geometry);
            assert(extent.bytes > 0 && extent.bytes <= 2 * format.geometry.cluster_size());
            uint64_t again = compressed_descriptor(extent.offset, extent.bytes, format.geometry);
            CompressedExtent second = compressed_extent({again}, format.geometry);
            assert(second.offset == extent.offset && second.bytes == extent.bytes);
        }
        uint64_t before = guest >> format.geometry.cluster_bits;
        guest += run.bytes;
        left -= run.bytes;
        entries = entries.subspan(((guest >> format.geometry.cluster_bits) - before) * entry_bytes);
    }
    return 0;
}
