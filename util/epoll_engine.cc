#include "util/engine.h"

namespace ashlar {

Result<std::unique_ptr<Engine>> make_epoll_engine() {
    return fail("epoll engine: not built yet");
}

}  // namespace ashlar
