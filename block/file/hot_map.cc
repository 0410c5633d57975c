#include "block/file/hot_map.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "block/file/page_cache.h"

namespace ashlar {

namespace {

constexpr int64_t kGoodNs = 1'000'000'000;

int64_t coarse_now_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

void HotMap::Free::operator()(Window* windows) const {
    std::free(windows);
}

HotMap::HotMap(int fd, int64_t length) : fd_(fd), length_(length) {
    if (length <= 0)
        return;
    void* map = mmap(nullptr, static_cast<size_t>(length), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return;
    map_ = static_cast<std::byte*>(map);
    windows_.reset(static_cast<Window*>(calloc(kWindows, sizeof(Window))));
}

HotMap::~HotMap() {
    if (map_)
        munmap(map_, static_cast<size_t>(length_));
}

const std::byte* HotMap::find(int64_t offset, int64_t bytes) {
    if (!windows_ || offset > length_ - bytes || offset / kWindow != (offset + bytes - 1) / kWindow)
        return nullptr;
    const int64_t number = offset / kWindow + 1;
    Window& window = windows_[static_cast<size_t>(number) % kWindows];
    std::atomic_ref owner(window.number), reads(window.reads), good_until(window.good_until);
    if (owner.load(std::memory_order_relaxed) != number) {
        good_until.store(0, std::memory_order_relaxed);
        reads.store(0, std::memory_order_relaxed);
        owner.store(number, std::memory_order_relaxed);
    }
    const int64_t count = reads.load(std::memory_order_relaxed) + 1;
    reads.store(count, std::memory_order_relaxed);
    const int64_t now = coarse_now_ns();
    if (now >= good_until.load(std::memory_order_relaxed)) {
        if (count < kHot)
            return nullptr;
        reads.store(0, std::memory_order_relaxed);
        const int64_t begin = offset / kWindow * kWindow;
        if (!is_in_page_cache(fd_, begin, std::min(kWindow, length_ - begin)))
            return nullptr;
        good_until.store(now + kGoodNs, std::memory_order_relaxed);
    }
    return map_ + offset;
}

}  // namespace ashlar
