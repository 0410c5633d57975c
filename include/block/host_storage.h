// HostStorage: what a driver offers besides that keeps a node's data in a file or a device of this host. Main context.
#pragma once

#include "block/block_node.h"

#include <cstdint>

namespace ashlar {

struct DiscardCounts {
    uint64_t ok = 0;
    uint64_t failed = 0;
    uint64_t bytes = 0;  // of those that went well
};

class HostStorage {
public:
    virtual DiscardCounts discard_counts() const = 0;

    // The node's own; null if its driver is none of these.
    static const HostStorage* of(const BlockDriverState& node) {
        return node.driver_is_open() ? dynamic_cast<const HostStorage*>(&node.driver()) : nullptr;
    }

protected:
    ~HostStorage() = default;
};

}  // namespace ashlar
