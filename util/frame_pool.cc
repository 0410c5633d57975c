#include "util/frame_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ASHLAR_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define ASHLAR_SANITIZED 1
#endif
#endif

namespace ashlar {

#ifdef ASHLAR_SANITIZED

void* frame_alloc(std::size_t size) {
    return ::operator new(size);
}
void frame_free(void* frame, std::size_t size) noexcept {
    ::operator delete(frame, size);
}

#else

namespace {

constexpr std::size_t kUnit = 64;
constexpr std::size_t kClasses = 32;  // frames of up to 2 KiB; larger ones are rare and go to malloc
// A thread's slabs of a class double in size up to the largest: most classes have a few frames only.
constexpr std::size_t kFirstSlab = 4 * 1024;
constexpr unsigned kDoublings = 4;
constexpr std::size_t kFewFrames = 4;  // are in every slab
constexpr unsigned kSurplus = 512;     // a thread's free list of one class sheds half beyond this

struct FreeFrame {
    FreeFrame* next;
};

// A slab or a large frame, in the list that the debugger script walks from `frame_slabs`.
struct alignas(64) Slab {
    Slab* next;
    Slab* previous;
    std::size_t frame_size;
    std::size_t frames;

    std::byte* frame(std::size_t i) { return reinterpret_cast<std::byte*>(this + 1) + i * frame_size; }
};

struct SharedList {
    std::mutex lock;
    FreeFrame* free[kClasses] = {};
};

std::mutex slabs_lock;
Slab* frame_slabs = nullptr;

SharedList& shared() {
    static SharedList* list = new SharedList;  // outlives every thread
    return *list;
}

void link_slab(Slab* slab) {
    std::lock_guard guard(slabs_lock);
    slab->previous = nullptr;
    slab->next = frame_slabs;
    if (frame_slabs)
        frame_slabs->previous = slab;
    frame_slabs = slab;
}

void unlink_slab(Slab* slab) {
    std::lock_guard guard(slabs_lock);
    (slab->previous ? slab->previous->next : frame_slabs) = slab->next;
    if (slab->next)
        slab->next->previous = slab->previous;
}

// A thread's free frames. Without constructor and destructor, so that reaching it takes no call.
struct ThreadFrames {
    FreeFrame* free[kClasses];
    unsigned count[kClasses];
    unsigned slabs[kClasses];  // made so far
    bool returned_at_exit;

    void shed_all() {
        for (std::size_t c = 0; c < kClasses; c++)
            shed(c, 0);
    }

    // Moves frames beyond the first `keep` to the shared list.
    [[gnu::noinline]] void shed(std::size_t c, unsigned keep) {
        FreeFrame** tail = &free[c];
        for (unsigned i = 0; i < keep && *tail; i++)
            tail = &(*tail)->next;
        FreeFrame* surplus = *tail;
        *tail = nullptr;
        count[c] = count[c] < keep ? count[c] : keep;
        if (!surplus)
            return;
        FreeFrame* last = surplus;
        while (last->next)
            last = last->next;
        SharedList& list = shared();
        std::lock_guard guard(list.lock);
        last->next = list.free[c];
        list.free[c] = surplus;
    }

    [[gnu::noinline]] void refill(std::size_t c) {
        {
            SharedList& list = shared();
            std::lock_guard guard(list.lock);
            for (unsigned i = 0; i < kSurplus / 2 && list.free[c]; i++) {
                FreeFrame* frame = list.free[c];
                list.free[c] = frame->next;
                frame->next = free[c];
                free[c] = frame;
                count[c]++;
            }
        }
        if (free[c])
            return;
        const std::size_t frame_size = (c + 1) * kUnit;
        const std::size_t slab_size =
            std::max(kFirstSlab << std::min(slabs[c], kDoublings), sizeof(Slab) + kFewFrames * frame_size);
        Slab* slab = static_cast<Slab*>(std::aligned_alloc(64, slab_size));
        if (!slab)
            throw std::bad_alloc();
        slabs[c]++;
        slab->frame_size = frame_size;
        slab->frames = (slab_size - sizeof(Slab)) / frame_size;
        for (std::size_t i = slab->frames; i-- > 0;) {
            auto* frame = reinterpret_cast<FreeFrame*>(slab->frame(i));
            frame->next = free[c];
            free[c] = frame;
            count[c]++;
        }
        link_slab(slab);
    }
};

constinit thread_local ThreadFrames frames{};

// Gives the frames to the other threads when this one ends.
[[gnu::noinline]] void return_at_exit() {
    struct Returner {
        ~Returner() { frames.shed_all(); }
    };
    static thread_local Returner returner;
    [[maybe_unused]] Returner* made = &returner;
    frames.returned_at_exit = true;
}

[[gnu::noinline]] void* large_alloc(std::size_t size) {
    std::size_t total = (sizeof(Slab) + size + kUnit - 1) / kUnit * kUnit;
    Slab* slab = static_cast<Slab*>(std::aligned_alloc(64, total));
    if (!slab)
        throw std::bad_alloc();
    slab->frame_size = size;
    slab->frames = 1;
    *reinterpret_cast<void**>(slab->frame(0)) = nullptr;
    link_slab(slab);
    return slab->frame(0);
}

[[gnu::noinline]] void large_free(void* frame) {
    Slab* slab = static_cast<Slab*>(frame) - 1;
    unlink_slab(slab);
    std::free(slab);
}

// The functions below are leaves on the ordinary path: what is rare they leave by a tail call.
[[gnu::noinline]] void* alloc_after_refill(std::size_t size) {
    frames.refill((size - 1) / kUnit);
    return frame_alloc(size);
}

[[gnu::noinline]] void free_first(void* frame, std::size_t size) {
    return_at_exit();
    frame_free(frame, size);
}

}  // namespace

void* frame_alloc(std::size_t size) {
    std::size_t c = (size - 1) / kUnit;
    if (c >= kClasses) [[unlikely]]
        return large_alloc(size);
    ThreadFrames& own = frames;
    FreeFrame* frame = own.free[c];
    if (!frame) [[unlikely]]
        return alloc_after_refill(size);
    own.free[c] = frame->next;
    own.count[c]--;
    return frame;
}

void frame_free(void* memory, std::size_t size) noexcept {
    std::size_t c = (size - 1) / kUnit;
    if (c >= kClasses) [[unlikely]]
        return large_free(memory);
    ThreadFrames& own = frames;
    if (!own.returned_at_exit) [[unlikely]]
        return free_first(memory, size);
    auto* frame = static_cast<FreeFrame*>(memory);
    frame->next = own.free[c];
    own.free[c] = frame;
    if (++own.count[c] > kSurplus) [[unlikely]]
        own.shed(c, kSurplus / 2);
}

#endif

}  // namespace ashlar
