#include "block/block_node.h"
#include "util/json.h"

namespace ashlar {

namespace {

constexpr unsigned kMaxChain = 200;

}  // namespace

Task<Result<BdrvChild*>> OpenContext::co_open_named_child(std::string name, std::string filename, std::string driver,
                                                          ChildRole role) {
    unsigned layers = 0;
    for (BlockDriverState* above = node_.inherits_from_; above; above = above->inherits_from_)
        if (++layers >= kMaxChain)
            co_return fail("'{}': the chain of images is longer than {}: does it lead back to itself?", filename,
                           kMaxChain);
    Json options{{"filename", std::move(filename)}};
    if (!driver.empty())
        options["driver"] = std::move(driver);
    bool complete = std::exchange(complete_, false);  // an image names its backing file as a legacy option does
    auto child = co_await co_open_child(std::move(name), BlockdevRef(JsonBox(std::move(options)), typing_), role);
    complete_ = complete;
    co_return child;
}

}  // namespace ashlar
