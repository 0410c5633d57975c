#include "block/block_backend.h"
#include "block/block_graph.h"
#include "block/throttle_groups.h"

namespace ashlar {

std::shared_ptr<ThrottleGroup> throttle_group_of(const BlockBackend& backend) {
    auto* member = dynamic_cast<ThrottleGroupMember*>(backend.throttle());
    return member ? member->group() : nullptr;
}

Task<Result<void>> co_set_io_throttle(BlockBackend& backend, ThrottleLimits limits, std::optional<std::string> group,
                                      std::string default_group) {
    auto config = limits.to_config();
    if (!config)
        co_return std::unexpected(std::move(config.error()));
    auto current = throttle_group_of(backend);
    std::shared_ptr<ThrottleGroup> wanted;
    if (config->limits_anything()) {
        wanted = group || !current ? backend.graph().throttle_groups().find_or_create(group.value_or(default_group))
                                   : current;
        wanted->set_config(*config);
    }
    if (wanted == current)
        co_return Result<void>();
    std::optional<BlockGraph::Drained> drained;
    if (BlockDriverState* root = backend.root())
        drained.emplace(co_await backend.graph().co_drain(*root));
    backend.set_throttle(wanted ? std::make_unique<ThrottleGroupMember>(wanted) : nullptr);
    co_return Result<void>();
}

}  // namespace ashlar
