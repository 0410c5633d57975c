// ImageWorkers: coroutines that go through images together, each taking the next piece when it has done one. What is
// done with a piece is the deriver's: its co_worker() takes pieces until there are none, or until may_go_on() says no.
//
// They run in threads that are made for them, which make blocking calls themselves: what a thread has read is still in
// its CPU's cache when it looks at it or writes it, and while one thread works another reads.
//
// Where the order matters, pieces have tickets, which count from 0: after co_await_turn() everything that comes before
// a piece has passed its turn. Each ticket is passed once, unless all is over.
//
// Made, run and destroyed in the main context. A deriver's functions run in any of the threads.
#pragma once

#include "block/block_backend.h"
#include "util/co_turns.h"
#include "util/error.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

namespace ashlar {

class ImageWorkers {
public:
    ImageWorkers(const ImageWorkers&) = delete;

    // Any time, any thread: begins nothing more.
    void cancel() { stop(); }

protected:
    struct Options {
        std::vector<BlockBackend*> images;
        // How many pieces are in the works at a time, and the threads that they share (0: the caller's); by default as
        // many as pay.
        std::optional<unsigned> coroutines = {};
        std::optional<unsigned> threads = {};
        bool busy = false;  // a piece keeps a CPU busy for a while
    };

    explicit ImageWorkers(const Options& options);
    ~ImageWorkers() = default;

    // Until all workers have ended; the first error of fail_with().
    [[nodiscard]] Task<Result<void>> co_work();
    [[nodiscard]] virtual Task<void> co_worker() = 0;

    [[nodiscard]] CoTurns::Awaiter co_await_turn(uint64_t ticket) { return turns_.co_await_turn(ticket); }
    void pass_turn(uint64_t ticket) { turns_.pass(ticket); }
    bool may_go_on() const { return !stopped_.load(std::memory_order_relaxed); }
    void stop();
    void fail_with(Error error);  // and stops

private:
    [[nodiscard]] Task<void> co_threaded_worker();

    const bool busy_;
    const unsigned threads_;
    const unsigned coroutines_;
    CoTurns turns_;
    std::atomic<bool> stopped_ = false;
    std::mutex error_lock_;
    std::optional<Error> error_;  // the first one
};

}  // namespace ashlar
