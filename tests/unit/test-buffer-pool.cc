#include "util/buffer_pool.h"

#include <glib.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

using namespace ashlar;

namespace {

void buffers_are_aligned_and_apart() {
    std::vector<Buffer> buffers;
    for (size_t size : {1ul, 512ul, 4095ul, 4096ul, 4097ul, 65536ul, Buffer::kMaxCached, Buffer::kMaxCached + 1}) {
        for (int i = 0; i < 3; i++) {
            Buffer& buffer = buffers.emplace_back(size);
            g_assert_cmpuint(reinterpret_cast<uintptr_t>(buffer.data()) % Buffer::kAlignment, ==, 0);
            g_assert_cmpuint(buffer.size(), ==, size);
            std::memset(buffer.data(), static_cast<int>(buffers.size()), size);
        }
    }
    for (size_t i = 0; i < buffers.size(); i++)
        for (std::byte byte : buffers[i].span())
            g_assert_cmpuint(static_cast<unsigned>(byte), ==, i + 1);
}

void a_freed_buffer_is_used_again() {
    Buffer buffer(10'000);
    std::byte* address = buffer.data();
    buffer.reset();
    g_assert_false(static_cast<bool>(buffer));
    g_assert_true(Buffer(16'384).data() == address);  // of the same class
}

void what_is_too_large_fails() {
    g_assert_false(static_cast<bool>(Buffer::try_alloc(SIZE_MAX / 2)));
}

void a_buffer_may_be_freed_on_another_thread() {
    for (int round = 0; round < 20; round++) {
        std::vector<Buffer> buffers;
        for (int i = 0; i < 100; i++)
            buffers.emplace_back(4096 << (i % 6));
        std::thread([moved = std::move(buffers)]() mutable {
            for (Buffer& buffer : moved)
                std::memset(buffer.data(), 1, buffer.size());
            moved.clear();
        }).join();
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/buffer-pool/buffers-are-aligned-and-apart", buffers_are_aligned_and_apart);
    g_test_add_func("/buffer-pool/a-freed-buffer-is-used-again", a_freed_buffer_is_used_again);
    g_test_add_func("/buffer-pool/what-is-too-large-fails", what_is_too_large_fails);
    g_test_add_func("/buffer-pool/a-buffer-may-be-freed-on-another-thread", a_buffer_may_be_freed_on_another_thread);
    return g_test_run();
}
