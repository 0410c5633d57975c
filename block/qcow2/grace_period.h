// GracePeriod: when everyone who may still be using what has been unlinked is gone (the idea of RCU).
//
// A request is inside while it uses what it found in the mapping. Whoever enters after something was unlinked does not
// find it; so nobody uses it any more when two advances have succeeded since. enter and leave from any thread;
// try_advance() by one at a time.
#pragma once

#include <array>
#include <atomic>

namespace ashlar::qcow2 {

class GracePeriod {
public:
    class Inside {
    public:
        explicit Inside(GracePeriod& period) : counter_(period.enter()) {}
        Inside(const Inside&) = delete;
        ~Inside() { counter_.fetch_sub(1, std::memory_order_release); }

    private:
        std::atomic<unsigned>& counter_;
    };

    // False: somebody is left from the period before the current one.
    bool try_advance() {
        unsigned now = current_.load(std::memory_order_relaxed);
        if (inside_[(now + 1) % 2].load(std::memory_order_acquire) != 0)
            return false;
        current_.store(now + 1, std::memory_order_seq_cst);
        return true;
    }

private:
    std::atomic<unsigned>& enter() {
        for (;;) {
            unsigned now = current_.load(std::memory_order_seq_cst);
            std::atomic<unsigned>& counter = inside_[now % 2];
            counter.fetch_add(1, std::memory_order_seq_cst);
            if (current_.load(std::memory_order_seq_cst) == now)
                return counter;
            counter.fetch_sub(1, std::memory_order_release);
        }
    }

    std::atomic<unsigned> current_{0};
    std::array<std::atomic<unsigned>, 2> inside_{};
};

}  // namespace ashlar::qcow2
