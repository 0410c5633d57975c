// Progress: how much of a long piece of work is done, for whoever shows it. Any thread may report and look.
#pragma once

#include <atomic>
#include <cstdint>

namespace ashlar {

class Progress {
public:
    // In units of the worker's own, bytes mostly.
    void add_work(uint64_t amount) { total_.fetch_add(amount, std::memory_order_relaxed); }
    void add_done(uint64_t amount) { done_.fetch_add(amount, std::memory_order_relaxed); }

    // 0 to 1; 0 before there is any work. May go back when more work turns up.
    double fraction() const {
        uint64_t total = total_.load(std::memory_order_relaxed), done = done_.load(std::memory_order_relaxed);
        return total == 0 ? 0 : done >= total ? 1 : static_cast<double>(done) / static_cast<double>(total);
    }

private:
    std::atomic<uint64_t> total_{0}, done_{0};
};

}  // namespace ashlar
