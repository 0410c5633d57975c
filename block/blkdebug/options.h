// What a `blkdebug` node is told: its rules, and the limits that it pretends to have.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/blkdebug.h"
#include "block/block_types.h"
#include "util/options.h"

namespace ashlar {

constexpr auto enum_names(BlockPerm) {
    return std::to_array<EnumName<BlockPerm>>({{BlockPerm::ConsistentRead, "consistent-read"},
                                               {BlockPerm::Write, "write"},
                                               {BlockPerm::WriteUnchanged, "write-unchanged"},
                                               {BlockPerm::Resize, "resize"}});
}

struct BlkdebugRules {
    std::vector<BlkdebugInjectError> inject_error;
    std::vector<BlkdebugSetState> set_state;

    static const OptionSet<BlkdebugRules>& options();
};

struct BlkdebugOptions {
    BlockdevRef image;
    std::optional<std::string> config;
    BlkdebugRules rules;
    Size align, max_transfer;  // 0: default
    Size opt_write_zero, max_write_zero;
    Size opt_discard, max_discard;
    std::vector<BlockPerm> take_child_perms, unshare_child_perms;

    static const OptionSet<BlkdebugOptions>& options();
    // `below`: the alignment of the image.
    Result<> check_limits(uint32_t below) const;
};

}  // namespace ashlar
