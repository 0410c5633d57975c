#include "util/frame_pool.h"

#include <glib.h>
#include <malloc.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

using namespace ashlar;

namespace {

void frames_of_every_size_are_aligned_and_apart() {
    std::vector<std::pair<char*, size_t>> frames;
    for (size_t size = 1; size < 5000; size += 37) {
        auto* frame = static_cast<char*>(frame_alloc(size));
        g_assert_cmpuint(reinterpret_cast<uintptr_t>(frame) % 16, ==, 0);
        std::memset(frame, static_cast<int>(size % 251), size);
        frames.emplace_back(frame, size);
    }
    for (auto [frame, size] : frames) {
        for (size_t i = 0; i < size; i++)
            g_assert_cmpint(static_cast<unsigned char>(frame[i]), ==, static_cast<int>(size % 251));
        frame_free(frame, size);
    }
}

// Coroutines that are made on one thread and end on another, for long: memory does not grow.
void frames_that_end_on_another_thread_are_used_again() {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    g_test_skip("frames come from malloc under a sanitizer");
#else
    constexpr int kRounds = 200, kFrames = 2000;
    std::set<void*> seen;
    for (int round = 0; round < kRounds; round++) {
        std::vector<void*> frames;
        for (int i = 0; i < kFrames; i++) {
            frames.push_back(frame_alloc(200));
            seen.insert(frames.back());
        }
        std::thread([&] {
            for (void* frame : frames)
                frame_free(frame, 200);
        }).join();
    }
    g_assert_cmpuint(seen.size(), <, 2 * kFrames);
#endif
}

void a_few_frames_of_each_size_take_little_memory() {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    g_test_skip("frames come from malloc under a sanitizer");
#else
    const size_t before = mallinfo2().uordblks;
    std::vector<std::pair<void*, size_t>> frames;
    size_t sum = 0;
    for (size_t size = 64; size <= 2048; size += 64) {
        frames.emplace_back(frame_alloc(size), size);
        sum += size;
    }
    g_assert_cmpuint(mallinfo2().uordblks - before, <, 8 * sum);
    for (auto [frame, size] : frames)
        frame_free(frame, size);
#endif
}

void threads_may_exchange_frames() {
    constexpr int kThreads = 4, kFrames = 5000;
    std::vector<void*> frames(kThreads * kFrames);
    auto everywhere = [](auto fn) {
        std::vector<std::thread> threads;
        for (int t = 0; t < kThreads; t++)
            threads.emplace_back(fn, t);
        for (auto& thread : threads)
            thread.join();
    };
    for (int round = 0; round < 5; round++) {
        everywhere([&](int t) {
            for (int i = 0; i < kFrames; i++) {
                void*& frame = frames[static_cast<size_t>(t * kFrames + i)];
                frame = frame_alloc(100 + static_cast<size_t>(i) % 3000);
                *static_cast<void**>(frame) = &frame;
            }
        });
        everywhere([&](int t) {
            for (int i = 0; i < kFrames; i++) {
                void*& frame = frames[static_cast<size_t>((t + 1) % kThreads * kFrames + i)];
                g_assert_true(*static_cast<void**>(frame) == &frame);
                frame_free(frame, 100 + static_cast<size_t>(i) % 3000);
            }
        });
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/frame-pool/a-few-frames-of-each-size-take-little-memory",
                    a_few_frames_of_each_size_take_little_memory);  // before others have left theirs
    g_test_add_func("/frame-pool/frames-of-every-size-are-aligned-and-apart",
                    frames_of_every_size_are_aligned_and_apart);
    g_test_add_func("/frame-pool/frames-that-end-on-another-thread-are-used-again",
                    frames_that_end_on_another_thread_are_used_again);
    g_test_add_func("/frame-pool/threads-may-exchange-frames", threads_may_exchange_frames);
    return g_test_run();
}
