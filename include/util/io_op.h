// IoOp: one asynchronous operation that the kernel is asked for, as the engines of an AioContext see it.
//
// Filled in and owned by whoever submits (an awaiter in a coroutine frame); it and every buffer that it names stay
// alive and in place until `done` is called, exactly once, by the loop of the AioContext that it was submitted to.
// Cancelling only asks: `done` is still called, with -ECANCELED or with what the operation had come to.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

namespace ashlar {

struct IoOp {
    enum class Kind : uint8_t {
        ReadV,      // fd, iov, iovcnt, offset, rw_flags
        WriteV,     // fd, iov, iovcnt, offset, rw_flags (RWF_DSYNC)
        Fsync,      // fd, rw_flags: 1 = data only
        Fallocate,  // fd, rw_flags: mode, offset, length
        Recv,       // fd, iov[0]
        Send,       // fd, msg
        Poll,       // fd, events; the result is the events that came
    };

    Kind kind;
    int fd = -1;
    uint32_t rw_flags = 0;
    uint32_t iovcnt = 0;
    union {
        const iovec* iov = nullptr;
        const msghdr* msg;
        uint32_t events;
    };
    int64_t offset = 0;
    int64_t length = 0;

    void (*done)(IoOp&, int result) = nullptr;  // result: as the system call's, or a negative errno

    IoOp* next = nullptr;  // engine's, while it has the operation
    void* engine_data = nullptr;

    bool is_file() const { return kind <= Kind::Fallocate; }
};

}  // namespace ashlar
