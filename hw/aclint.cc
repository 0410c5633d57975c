#include "hw/aclint.h"

#include <algorithm>

namespace ashlar {

namespace {

// The register `whole` as it is read or written at `offset` within it.
uint64_t part_of(uint64_t whole, uint64_t offset, unsigned size) {
    const uint64_t value = whole >> offset % 8 * 8;
    return size < 8 ? value & ((uint64_t{1} << size * 8) - 1) : value;
}

uint64_t with_part(uint64_t whole, uint64_t offset, unsigned size, uint64_t value) {
    if (size == 8)
        return value;
    const unsigned shift = static_cast<unsigned>(offset % 8 * 8);
    const uint64_t mask = ((uint64_t{1} << size * 8) - 1) << shift;
    return (whole & ~mask) | (value << shift & mask);
}

}  // namespace

Aclint::Aclint(MachineClock& clock, const std::vector<Lines>& harts) : clock_(clock) {
    for (const Lines& lines : harts)
        harts_.push_back({.lines = lines});
}

void Aclint::reset() {
    for (Hart& hart : harts_) {
        hart = {.lines = hart.lines};
        hart.lines.software.set(false);
        hart.lines.timer.set(false);
    }
}

uint64_t Aclint::read(uint64_t offset, unsigned size) {
    if (offset < kTimecmp)
        return size == 4 && offset / 4 < harts_.size() ? harts_[offset / 4].software : 0;
    if (offset - kTimecmp < 8 * harts_.size())
        return part_of(harts_[(offset - kTimecmp) / 8].timecmp, offset, size);
    if (offset - kTime < 8)
        return part_of(clock_.now(), offset, size);
    return 0;
}

void Aclint::write(uint64_t offset, unsigned size, uint64_t value) {
    if (offset < kTimecmp) {
        if (size != 4 || offset / 4 >= harts_.size())
            return;
        Hart& hart = harts_[offset / 4];
        hart.software = value & 1;
        hart.lines.software.set(hart.software);
    } else if (offset - kTimecmp < 8 * harts_.size()) {
        Hart& hart = harts_[(offset - kTimecmp) / 8];
        hart.timecmp = with_part(hart.timecmp, offset, size, value);
        check_time(hart, clock_.now());
    } else if (offset - kTime < 8) {
        clock_.set(with_part(clock_.now(), offset, size, value));
        check_time();
    }
}

uint64_t Aclint::next_deadline() {
    uint64_t next = kNever;
    for (const Hart& hart : harts_)
        if (!hart.timer)
            next = std::min(next, hart.timecmp);
    return next;
}

void Aclint::check_time() {
    const uint64_t now = clock_.now();
    for (Hart& hart : harts_)
        check_time(hart, now);
}

void Aclint::check_time(Hart& hart, uint64_t now) {
    const bool level = now >= hart.timecmp;
    if (level != hart.timer)
        hart.lines.timer.set(hart.timer = level);
}

}  // namespace ashlar
