// The active L1 table, in memory as a whole.
//
// Entries are read from any thread without a lock. They are changed, and the table replaced by a larger one, by whoever
// holds the image's allocation lock; a replaced table stays until the end, because somebody may still be reading it.
#pragma once

#include "block/qcow2/format.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace ashlar::qcow2 {

class L1Table {
public:
    explicit L1Table(std::vector<uint64_t> entries) { replace(std::move(entries)); }

    uint64_t size() const { return table()->size(); }
    uint64_t get(uint64_t index) const {  // 0 beyond the end
        std::vector<uint64_t>& entries = *table();
        return index < entries.size() ? std::atomic_ref(entries[index]).load(std::memory_order_acquire) : 0;
    }
    void set(uint64_t index, uint64_t entry) {
        std::atomic_ref((*table())[index]).store(entry, std::memory_order_release);
    }
    void replace(std::vector<uint64_t> entries) {
        tables_.push_back(std::make_unique<std::vector<uint64_t>>(std::move(entries)));
        current_.store(tables_.back().get(), std::memory_order_release);
    }

private:
    std::vector<uint64_t>* table() const { return current_.load(std::memory_order_acquire); }

    std::vector<std::unique_ptr<std::vector<uint64_t>>> tables_;
    std::atomic<std::vector<uint64_t>*> current_{nullptr};
};

}  // namespace ashlar::qcow2
