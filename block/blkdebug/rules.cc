#include <algorithm>
#include <cassert>

#include "block/blkdebug.h"
#include "block/block_types.h"
#include "util/aio_context.h"

namespace ashlar {

const OptionSet<BlkdebugInjectError>& BlkdebugInjectError::options() {
    static const auto set =
        OptionSet<BlkdebugInjectError>("inject-error")
            .required("event", &BlkdebugInjectError::event, "what makes the rule active")
            .optional("state", &BlkdebugInjectError::state, "the state it takes for that (default: any)")
            .optional("iotype", &BlkdebugInjectError::iotype, "which requests fail (default: all but block-status)")
            .optional("errno", &BlkdebugInjectError::error, "the error they fail with")
            .optional("sector", &BlkdebugInjectError::sector, "which sector they touch (default: any)")
            .optional("once", &BlkdebugInjectError::once, "forget the rule after the first")
            .optional("immediately", &BlkdebugInjectError::immediately, "fail before anything else is done");
    return set;
}

const OptionSet<BlkdebugSetState>& BlkdebugSetState::options() {
    static const auto set = OptionSet<BlkdebugSetState>("set-state")
                                .required("event", &BlkdebugSetState::event, "what changes the state")
                                .optional("state", &BlkdebugSetState::state, "in which state (default: any)")
                                .required("new_state", &BlkdebugSetState::new_state, "the new state");
    return set;
}

// A request that has met breakpoints, until all of them have been resumed.
struct Blkdebug::Suspended : CoWaiter {
    Blkdebug& owner;
    const BlkdebugEvent event;
    std::vector<std::string> tags;

    Suspended(Blkdebug& o, BlkdebugEvent e) : owner(o), event(e) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        prepare(h);
        return owner.take_breakpoints(event, *this);
    }
    void await_resume() const noexcept {}
};

Blkdebug::~Blkdebug() {
    assert(suspended_.empty());
}

void Blkdebug::add(BlkdebugInjectError rule) {
    std::lock_guard guard(lock_);
    errors_.push_back({std::move(rule)});
}

void Blkdebug::add(BlkdebugSetState rule) {
    std::lock_guard guard(lock_);
    state_changes_.push_back(std::move(rule));
}

Task<void> Blkdebug::co_event(BlkdebugEvent event) {
    {
        std::lock_guard guard(lock_);
        auto applies = [&](const auto& rule) { return rule.event == event && (!rule.state || *rule.state == state_); };
        if (std::any_of(errors_.begin(), errors_.end(), [&](const ErrorRule& r) { return applies(r.rule); }))
            for (ErrorRule& error : errors_)
                error.active = applies(error.rule);
        int32_t new_state = state_;
        for (const BlkdebugSetState& change : state_changes_)
            if (applies(change))
                new_state = change.new_state;
        state_ = new_state;
    }
    co_await Suspended(*this, event);
}

bool Blkdebug::take_breakpoints(BlkdebugEvent event, Suspended& request) {
    std::vector<std::string> tags;
    {
        std::lock_guard guard(lock_);
        if (drained_)
            return false;
        for (auto it = breakpoints_.begin(); it != breakpoints_.end();) {
            if (it->event != event) {
                ++it;
                continue;
            }
            tags.push_back(std::move(it->tag));
            it = breakpoints_.erase(it);
        }
        if (tags.empty())
            return false;
        request.tags = tags;
        suspended_.push_back(&request);
    }
    // The request may have gone on, and be gone, by now.
    if (listener_)
        for (const std::string& tag : tags)
            listener_(true, tag);
    return true;
}

Task<int> Blkdebug::co_check(BlkdebugIoType type, int64_t offset, int64_t bytes) {
    bool immediately;
    int error;
    {
        std::lock_guard guard(lock_);
        auto it = std::find_if(errors_.begin(), errors_.end(), [&](const ErrorRule& candidate) {
            const BlkdebugInjectError& rule = candidate.rule;
            if (!candidate.active || (rule.iotype ? *rule.iotype != type : type == BlkdebugIoType::BlockStatus))
                return false;
            if (!rule.sector)
                return true;
            auto first = static_cast<uint64_t>(offset) / kSectorSize;
            return bytes > 0 && *rule.sector >= first &&
                   *rule.sector <= static_cast<uint64_t>(offset + bytes - 1) / kSectorSize;
        });
        if (it == errors_.end() || it->rule.error == 0)
            co_return 0;
        error = it->rule.error;
        immediately = it->rule.immediately;
        if (it->rule.once)
            errors_.erase(it);
    }
    if (!immediately)
        co_await co_yield_now();
    co_return -error;
}

// --- breakpoints ---

void Blkdebug::add_breakpoint(BlkdebugEvent event, std::string tag) {
    std::lock_guard guard(lock_);
    breakpoints_.push_back({event, std::move(tag)});
}

void Blkdebug::wake(std::list<Suspended*>::iterator request) {
    Suspended* waiter = *request;
    suspended_.erase(request);
    waiter->wake();  // and is gone
}

bool Blkdebug::resume(std::string_view tag) {
    {
        std::lock_guard guard(lock_);
        auto has_tag = [&](Suspended* request) {
            return std::find(request->tags.begin(), request->tags.end(), tag) != request->tags.end();
        };
        auto it = std::find_if(suspended_.begin(), suspended_.end(), has_tag);
        if (it == suspended_.end())
            return false;
        auto& tags = (*it)->tags;
        tags.erase(std::find(tags.begin(), tags.end(), tag));
        if (tags.empty())
            wake(it);
    }
    if (listener_)
        listener_(false, tag);
    return true;
}

bool Blkdebug::remove_breakpoint(std::string_view tag) {
    bool any;
    {
        std::lock_guard guard(lock_);
        any = std::erase_if(breakpoints_, [&](const Breakpoint& b) { return b.tag == tag; }) > 0;
    }
    while (resume(tag))
        any = true;
    return any;
}

bool Blkdebug::is_suspended(std::string_view tag) const {
    std::lock_guard guard(lock_);
    return std::any_of(suspended_.begin(), suspended_.end(), [&](const Suspended* request) {
        return std::find(request->tags.begin(), request->tags.end(), tag) != request->tags.end();
    });
}

void Blkdebug::drain_begin() {
    std::lock_guard guard(lock_);
    drained_++;
    while (!suspended_.empty())
        wake(suspended_.begin());
}

void Blkdebug::drain_end() {
    std::lock_guard guard(lock_);
    drained_--;
}

}  // namespace ashlar
