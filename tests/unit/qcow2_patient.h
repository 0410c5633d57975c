// The bytes of a qcow2 image, to be damaged by tests.
#pragma once

#include "block/qcow2/format.h"
#include "block/qcow2/refcount_entry.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/byte_order.h"

namespace ashlar::test {

struct Patient {
    Bytes bytes;

    uint64_t u64(size_t at) const { return load_be<uint64_t>(bytes.data() + at); }
    uint32_t u32(size_t at) const { return load_be<uint32_t>(bytes.data() + at); }
    void put64(size_t at, uint64_t value) { store_be<uint64_t>(bytes.data() + at, value); }
    void put32(size_t at, uint32_t value) { store_be<uint32_t>(bytes.data() + at, value); }

    size_t cluster() const { return size_t{1} << u32(20); }
    unsigned order() const { return u32(4) == 2 ? 4 : u32(96); }
    size_t entry_bytes() const { return u32(4) == 3 && (u64(72) & qcow2::kExtendedL2) ? 16 : 8; }
    size_t l1() const { return u64(40); }
    size_t l2() const { return u64(l1()) & qcow2::kOffsetMask; }
    size_t entry(size_t index) const { return l2() + index * entry_bytes(); }
    size_t reftable() const { return u64(48); }
    size_t refblock() const { return u64(reftable()); }
    void set_count(uint64_t cluster_index, uint64_t count) {
        qcow2::set_refcount(bytes.data() + refblock(), cluster_index, order(), count);
    }
    uint64_t data_cluster(size_t index) const { return (u64(entry(index)) & qcow2::kOffsetMask) / cluster(); }
};

}  // namespace ashlar::test
