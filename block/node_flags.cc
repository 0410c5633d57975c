#include "block/node_flags.h"

namespace ashlar {

const OptionSet<CacheOptions>& CacheOptions::options() {
    static const auto set = OptionSet<CacheOptions>("cache")
                                .optional("direct", &CacheOptions::direct, "go past the host's page cache")
                                .optional("no-flush", &CacheOptions::no_flush, "ignore flushes: data may be lost");
    return set;
}

const OptionSet<NodeOptions>& NodeOptions::options() {
    static const auto set =
        OptionSet<NodeOptions>("node")
            .optional("driver", &NodeOptions::driver, "the format or protocol")
            .optional("node-name", &NodeOptions::node_name, "how the node is called (default: a name of its own)")
            .optional("read-only", &NodeOptions::read_only, "refuse writes (default: as the parent, else off)")
            .optional("auto-read-only", &NodeOptions::auto_read_only, "read-only if it cannot be written")
            .optional("cache", &NodeOptions::cache, "how the host's cache is used")
            .optional("discard", &NodeOptions::discard, "what becomes of discard requests (default: ignore)")
            .optional("detect-zeroes", &NodeOptions::detect_zeroes, "turn writes of zeroes into zeroing")
            .optional("force-share", &NodeOptions::force_share, "allow others to write to a read-only image");
    return set;
}

}  // namespace ashlar
