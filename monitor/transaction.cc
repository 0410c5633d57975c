#include "monitor/transaction.h"

#include <ranges>

namespace ashlar {

Result<BlockDriverState*> Transaction::hold(const std::string& name) {
    auto node = graph_.find_device_or_node(name);
    if (node) {
        graph_.ref(**node);
        held_.push_back(*node);
    }
    return node;
}

void Transaction::done(std::function<void()> undo, std::function<void()> finish) {
    steps_.push_back({std::move(undo), std::move(finish)});
}

Task<Result<void>> Transaction::co_end(bool success) {
    if (success) {
        for (const Step& step : steps_)
            if (step.finish)
                step.finish();
    } else {
        for (const Step& step : steps_ | std::views::reverse)
            step.undo();
    }
    steps_.clear();
    drained_.end();
    Result<void> result;
    for (BlockDriverState* node : held_)
        if (auto closed = co_await graph_.co_unref(*node); !closed && result)
            result = std::move(closed);
    co_return result;
}

}  // namespace ashlar
