// The first cluster of a qcow2 image: what is accepted is within the limits, and is read again as it was when written.
#include <cassert>
#include <cstdint>
#include <span>

#include "block/block_types.h"
#include "block/qcow2/header.h"

using namespace ashlar;
using namespace ashlar::qcow2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    probe_header(bytes);
    if (!header_area_size(bytes))
        return 0;
    auto header = read_header(bytes);
    if (!header)
        return 0;
    Geometry geometry = header->geometry();
    assert(header->size <= static_cast<uint64_t>(kMaxLength));
    assert(header->l1_size <= kMaxL1Bytes / 8 && geometry.l1_entries_for(header->size) <= header->l1_size);
    assert(header->backing_file.size() <= kMaxBackingName && header->refcount_order <= 6);
    if (check_layout(*header, 1 << 30)) {
        assert(header->l1_size == 0 || header->l1_offset + uint64_t{header->l1_size} * 8 <= 1 << 30);
        assert(header->reftable_offset >= geometry.cluster_size());
    }
    auto again = write_header(*header);
    if (!again)
        return 0;  // it was over a cluster with what is written always
    auto second = read_header(*again);
    assert(second);
    assert(second->size == header->size && second->l1_offset == header->l1_offset);
    assert(second->incompatible == header->incompatible && second->autoclear == header->autoclear);
    assert(second->backing_file == header->backing_file && second->backing_format == header->backing_format);
    assert(second->data_file == header->data_file && second->unknown_fields == header->unknown_fields);
    assert(second->unknown_extensions.size() == header->unknown_extensions.size());
    assert(second->bitmaps.has_value() == header->bitmaps.has_value());
    return 0;
}
