// RequestThrottle: what holds a BlockBackend's requests back to keep a rate; a member of a throttle group.
//
// Called from any AioContext. While the BlockBackend is drained nothing is held back.
#pragma once

#include "util/task.h"

#include <cstdint>

namespace ashlar {

class RequestThrottle {
public:
    virtual ~RequestThrottle() = default;
    // Suspends until the request may go, and counts it.
    [[nodiscard]] virtual Task<void> co_admit(bool is_write, int64_t bytes) = 0;
    virtual void drain_begin() = 0;  // lets all that wait go, and those to come; nests
    virtual void drain_end() = 0;
};

}  // namespace ashlar
