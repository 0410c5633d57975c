// FlushQueue: makes one flush out of many.
//
// A flush covers the writes that had completed when it began; so of those that are asked for while one is under way,
// the next covers all. Any context.
#pragma once

#include "util/wait_list.h"

#include <mutex>

namespace ashlar {

class BlockDriver;

class FlushQueue {
public:
    [[nodiscard]] Task<int> co_flush(BlockDriver& driver);

private:
    struct Awaiter;

    std::mutex lock_;
    bool running_ = false;
    WaitList waiting_;
};

}  // namespace ashlar
