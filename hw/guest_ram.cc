#include "hw/guest_ram.h"

#include <sys/mman.h>

#include <cerrno>

namespace ashlar {

Result<std::unique_ptr<GuestRam>> GuestRam::create(uint64_t base, uint64_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return fail_errno(errno, "cannot set up guest memory of {} bytes", bytes);
    madvise(memory, bytes, MADV_HUGEPAGE);
    return std::unique_ptr<GuestRam>(new GuestRam(base, bytes, static_cast<uint8_t*>(memory)));
}

GuestRam::~GuestRam() {
    munmap(memory_, bytes_);
}

void GuestRam::clear() {
    madvise(memory_, bytes_, MADV_DONTNEED);
}

}  // namespace ashlar
