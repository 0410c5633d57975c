#include "hw/plic.h"

#include <bit>
#include <span>

namespace ashlar {

namespace {

constexpr uint64_t kPending = 0x1000, kEnabled = 0x2000, kEnabledStride = 0x80;
constexpr uint64_t kContexts = 0x200000, kContextStride = 0x1000;
enum ContextRegister : uint64_t { kThreshold = 0, kClaim = 4 };

bool has(std::span<const uint32_t> sources, unsigned source) {
    return sources[source / 32] >> source % 32 & 1;
}

void change(std::span<uint32_t> sources, unsigned source, bool value) {
    const uint32_t bit = uint32_t{1} << source % 32;
    if (value)
        sources[source / 32] |= bit;
    else
        sources[source / 32] &= ~bit;
}

// Those of a word's 32 sources that exist.
uint32_t existing(size_t word) {
    uint32_t mask = word == 0 ? ~uint32_t{1} : ~uint32_t{0};
    if (word == Plic::kSources / 32)
        mask &= (uint64_t{2} << Plic::kSources % 32) - 1;
    return mask;
}

}  // namespace

Plic::Plic(const std::vector<InterruptLine>& contexts) {
    for (const InterruptLine& line : contexts)
        contexts_.push_back({.line = line});
}

void Plic::reset() {
    std::lock_guard guard(lock_);
    priority_.fill(0);
    requested_ = pending_ = level_;
    for (Context& context : contexts_) {
        context.enabled.fill(0);
        context.threshold = 0;
    }
    update_lines();
}

void Plic::set_level(unsigned source, bool level) {
    std::lock_guard guard(lock_);
    if (has(level_, source) == level)
        return;
    change(level_, source, level);
    request(source);
    update_lines();
}

uint64_t Plic::read(uint64_t offset, unsigned) {
    std::lock_guard guard(lock_);
    return read_locked(offset);
}

void Plic::write(uint64_t offset, unsigned, uint64_t value) {
    std::lock_guard guard(lock_);
    write_locked(offset, static_cast<uint32_t>(value));
    update_lines();
}

uint32_t Plic::read_locked(uint64_t offset) {
    if (offset < kPending)
        return offset / 4 <= kSources ? priority_[offset / 4] : 0;
    if (offset < kEnabled) {
        const uint64_t word = (offset - kPending) / 4;
        return word < kWords ? pending_[word] : 0;
    }
    if (offset < kContexts) {
        const uint64_t context = (offset - kEnabled) / kEnabledStride, word = (offset - kEnabled) % kEnabledStride / 4;
        return context < contexts_.size() && word < kWords ? contexts_[context].enabled[word] : 0;
    }
    const uint64_t context = (offset - kContexts) / kContextStride;
    if (context >= contexts_.size())
        return 0;
    switch ((offset - kContexts) % kContextStride) {
        case kThreshold:
            return contexts_[context].threshold;
        case kClaim:
            return claim(contexts_[context]);
    }
    return 0;
}

void Plic::write_locked(uint64_t offset, uint32_t value) {
    if (offset < kPending) {
        if (offset >= 4 && offset / 4 <= kSources)
            priority_[offset / 4] = value & kMaxPriority;
        return;
    }
    if (offset < kEnabled)
        return;
    if (offset < kContexts) {
        const uint64_t context = (offset - kEnabled) / kEnabledStride, word = (offset - kEnabled) % kEnabledStride / 4;
        if (context < contexts_.size() && word < kWords)
            contexts_[context].enabled[word] = value & existing(word);
        return;
    }
    const uint64_t number = (offset - kContexts) / kContextStride;
    if (number >= contexts_.size())
        return;
    Context& context = contexts_[number];
    switch ((offset - kContexts) % kContextStride) {
        case kThreshold:
            context.threshold = value & kMaxPriority;
            break;
        case kClaim:
            // A completion of what is not enabled for the context is ignored.
            if (value >= 1 && value <= kSources && has(context.enabled, value)) {
                change(requested_, value, false);
                request(value);
            }
            break;
    }
}

// The pending and enabled source of the highest priority that is above `above`, of equals the lowest; 0: none.
unsigned Plic::best(const Context& context, uint32_t above) const {
    unsigned found = 0;
    for (unsigned word = 0; word < kWords; ++word) {
        uint32_t sources = pending_[word] & context.enabled[word];
        for (; sources; sources &= sources - 1) {
            const unsigned source = word * 32 + static_cast<unsigned>(std::countr_zero(sources));
            if (priority_[source] > above) {
                above = priority_[source];
                found = source;
            }
        }
    }
    return found;
}

uint32_t Plic::claim(const Context& context) {
    const unsigned source = best(context, 0);  // whatever the threshold is
    if (source) {
        change(pending_, source, false);
        update_lines();
    }
    return source;
}

void Plic::request(unsigned source) {
    if (!has(level_, source) || has(requested_, source))
        return;
    change(requested_, source, true);
    change(pending_, source, true);
}

void Plic::update_lines() {
    for (Context& context : contexts_) {
        const bool level = best(context, context.threshold) != 0;
        if (level != context.level)
            context.line.set(context.level = level);
    }
}

}  // namespace ashlar
