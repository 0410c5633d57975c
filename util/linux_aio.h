// LinuxAio: one io_context of the kernel's native AIO (libaio) for the file operations of one AioContext.
//
// Operations that are submitted in one turn of the loop reach the kernel by one io_submit(); completions arrive by an
// eventfd that the engine watches. Read, write and fsync only. Used by the context's thread.
#pragma once

#include "util/io_op.h"

namespace ashlar {

class AioContext;

class LinuxAio {
public:
    explicit LinuxAio(AioContext& context);
    ~LinuxAio();
    void submit(IoOp& op);
};

}  // namespace ashlar
