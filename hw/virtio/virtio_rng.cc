#include "hw/virtio_rng.h"

#include <sys/random.h>

#include <algorithm>

namespace ashlar {

namespace {

// A request may be given less than it has room for. So a large one does not keep the loop from its other work.
constexpr size_t kMaxBytes = 4096;

}  // namespace

VirtioRng::VirtioRng(const GuestRam& ram, AioContext& context)
    : VirtioDevice("virtio-rng-device", 4, ram, context, 1, 64) {}

void VirtioRng::read_config(uint64_t, std::span<uint8_t> bytes) const {
    std::ranges::fill(bytes, uint8_t{0});
}

bool VirtioRng::handle_queue(unsigned index) {
    while (take(index, chain_)) {
        if (chain_.writable.empty() || !chain_.readable.empty()) {
            broken("a request that is not for reading entropy");
            break;
        }
        size_t written = 0;
        for (const iovec& element : chain_.writable) {
            const size_t wanted = std::min(element.iov_len, kMaxBytes - written);
            const ssize_t got = getrandom(element.iov_base, wanted, 0);
            if (got <= 0)
                break;
            written += static_cast<size_t>(got);
            if (static_cast<size_t>(got) < element.iov_len)
                break;
        }
        give_back(index, chain_.head, static_cast<uint32_t>(written));
    }
    publish(index);
    return true;
}

}  // namespace ashlar
