// A driver that writes what it likes into its rings and tables. The first byte chooses the features and the size of the
// queue; what follows is the memory in which it lies, and in the end how often the device looks and gives back.
#include "hw/virtqueue.h"

#include <cassert>
#include <cstdlib>
#include <cstring>
#include <deque>

using namespace ashlar;

namespace {

constexpr uint64_t kBase = 0x80000000;
constexpr uint64_t kBytes = 16 << 10;

bool lies_within(const GuestRam& ram, const std::vector<iovec>& vector, uint64_t bytes) {
    uint64_t total = 0;
    for (const iovec& element : vector) {
        const auto* from = static_cast<const uint8_t*>(element.iov_base);
        const auto all = ram.all();
        assert(element.iov_len > 0 && from >= all.data() && from + element.iov_len <= all.data() + all.size());
        total += element.iov_len;
    }
    return total == bytes && vector.size() <= Virtqueue::kMaxChain;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const auto ram = std::move(*GuestRam::create(kBase, kBytes));
    if (size < 1)
        return 0;
    const uint8_t choice = data[0];
    const uint32_t count = 1u << (choice & 7);
    const Virtqueue::Features features{.event_index = (choice & 8) != 0, .indirect = (choice & 16) != 0};
    memset(ram->all().data(), 0, kBytes);
    memcpy(ram->all().data(), data + 1, std::min<size_t>(size - 1, kBytes));

    // The three parts follow one another from the start of the memory, so that short inputs reach all of them.
    const VirtqueueLayout layout{count, kBase, kBase + 16 * count, kBase + (16 * count + 6 + 2 * count + 3) / 4 * 4};
    Virtqueue queue;
    if (!queue.set_up(*ram, layout, features))
        abort();
    VirtqueueChain chain;
    std::deque<uint16_t> taken;
    for (unsigned round = 0; round < 3 * count; ++round) {
        const auto result = queue.take(chain);
        if (result == Virtqueue::Taken::Broken) {
            assert(!queue.error().empty());
            return 0;
        }
        if (result == Virtqueue::Taken::Nothing)
            break;
        if (!lies_within(*ram, chain.readable, chain.readable_bytes) ||
            !lies_within(*ram, chain.writable, chain.writable_bytes))
            abort();
        taken.push_back(chain.head);
        assert(queue.taken() == taken.size() && taken.size() <= count);
        if (round % 3 == 2) {
            queue.give_back(taken.front(), static_cast<uint32_t>(chain.writable_bytes));
            taken.pop_front();
            (void)queue.publish();
            (void)queue.enable_notifications();
        }
        queue.disable_notifications();
    }
    return 0;
}
