#include "util/linux_aio.h"

#include <cstdlib>

namespace ashlar {

LinuxAio::LinuxAio(AioContext&) {}
LinuxAio::~LinuxAio() = default;
void LinuxAio::submit(IoOp&) {
    std::abort();
}

}  // namespace ashlar
