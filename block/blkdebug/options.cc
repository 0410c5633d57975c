#include "block/blkdebug/options.h"

#include <algorithm>
#include <bit>

namespace ashlar {

const OptionSet<BlkdebugRules>& BlkdebugRules::options() {
    static const auto set =
        OptionSet<BlkdebugRules>("blkdebug rules")
            .optional("inject-error", &BlkdebugRules::inject_error, "requests that fail")
            .optional("set-state", &BlkdebugRules::set_state, "changes of the state that rules ask for");
    return set;
}

const OptionSet<BlkdebugOptions>& BlkdebugOptions::options() {
    using O = BlkdebugOptions;
    static const auto set =
        OptionSet<O>("blkdebug")
            .required("image", &O::image, "the node below")
            .optional("config", &O::config, "file with rules")
            .include(&O::rules)
            .optional("align", &O::align, "alignment of requests (0: default)")
            .optional("max-transfer", &O::max_transfer, "maximum of a read or write (0: default)")
            .optional("opt-write-zero", &O::opt_write_zero, "preferred alignment of write-zeroes (0: default)")
            .optional("max-write-zero", &O::max_write_zero, "maximum of a write-zeroes (0: default)")
            .optional("opt-discard", &O::opt_discard, "preferred alignment of a discard (0: default)")
            .optional("max-discard", &O::max_discard, "maximum of a discard (0: default)")
            .optional("take-child-perms", &O::take_child_perms, "permissions to take on the image in any case")
            .optional("unshare-child-perms", &O::unshare_child_perms, "permissions not to share in any case");
    return set;
}

Result<> BlkdebugOptions::check_limits(uint32_t below) const {
    auto refuse = [](const char* name, uint64_t value) {
        return fail("Cannot meet constraints with {} {}", name, value);
    };
    if (align && (align > INT32_MAX || !std::has_single_bit(align.bytes)))
        return refuse("align", align);
    uint64_t unit = std::max<uint64_t>(align, below);
    auto fits = [](uint64_t value, uint64_t multiple_of) {
        return value == 0 || (value <= INT32_MAX && value % multiple_of == 0);
    };
    if (!fits(max_transfer, unit))
        return refuse("max-transfer", max_transfer);
    if (!fits(opt_write_zero, unit))
        return refuse("opt-write-zero", opt_write_zero);
    if (!fits(max_write_zero, unit) || !fits(max_write_zero, std::max<uint64_t>(opt_write_zero, 1)))
        return refuse("max-write-zero", max_write_zero);
    if (!fits(opt_discard, unit))
        return refuse("opt-discard", opt_discard);
    if (!fits(max_discard, unit) || !fits(max_discard, std::max<uint64_t>(opt_discard, 1)))
        return refuse("max-discard", max_discard);
    return {};
}

}  // namespace ashlar
