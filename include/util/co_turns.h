// CoTurns: coroutines that begin something in the order of their tickets, which count from 0.
//
// co_await_turn(t) suspends until t has come; pass(t), by whom it has come to, lets the next one begin. At most `most`
// tickets from the one whose turn it is on are in use at a time. After end() nobody waits any more, and pass() is
// ignored. Any AioContext, any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "util/aio_context.h"

namespace ashlar {

class CoTurns {
public:
    explicit CoTurns(unsigned most) : waiting_(most) {}
    CoTurns(const CoTurns&) = delete;

    struct Awaiter : CoWaiter {
        CoTurns& turns;
        const uint64_t ticket;

        Awaiter(CoTurns& t, uint64_t n) : turns(t), ticket(n) {}
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> h);
        void await_resume() const noexcept {}
    };
    [[nodiscard]] Awaiter co_await_turn(uint64_t ticket) { return {*this, ticket}; }
    void pass(uint64_t ticket);
    void end();

private:
    std::mutex lock_;
    uint64_t now_ = 0;
    bool ended_ = false;
    std::vector<Awaiter*> waiting_;  // by ticket, modulo its size
};

}  // namespace ashlar
