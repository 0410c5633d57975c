// RequestTracker: which writes of a node are in flight, so that one that reads, modifies and writes whole blocks does
// not undo another's.
//
// A plain write enters and leaves with one atomic operation each while no serialising request is about. A serialising
// request waits for all plain writes that were there before it, and for overlapping serialising ones; while it is there
// later writes queue up behind it if they overlap. Reads are not tracked: what they can see half-written is only what
// somebody is writing. Any context.
#pragma once

#include "util/gate.h"

#include <cstdint>
#include <mutex>

namespace ashlar {

class RequestTracker {
public:
    enum class Kind : uint8_t { Plain, Serialising };
    class Request;

    [[nodiscard]] Task<void> co_enter(Request& request);

private:
    struct OverlapAwaiter;
    bool must_wait(const Request& request) const;
    void leave(Request& request);

    Gate plain_;  // plain writes without a place in the list; closed while there are serialising requests
    mutable std::mutex lock_;
    Request* first_ = nullptr;  // in order of arrival
    Request* last_ = nullptr;
};

// In the frame of the request's coroutine; leaves when it is destroyed.
class RequestTracker::Request {
public:
    Request(RequestTracker& tracker, Kind kind, int64_t offset, int64_t bytes)
        : tracker_(tracker), offset_(offset), end_(offset + bytes), kind_(kind) {}
    Request(const Request&) = delete;
    ~Request() {
        if (state_ == State::InGate)
            tracker_.plain_.leave();
        else if (state_ == State::InList)
            tracker_.leave(*this);
    }

    // True if it entered without having to wait; else await co_enter().
    bool try_enter() {
        if (kind_ == Kind::Serialising || !tracker_.plain_.try_enter())
            return false;
        state_ = State::InGate;
        return true;
    }

private:
    friend class RequestTracker;
    enum class State : uint8_t { Outside, InGate, InList };

    bool overlaps(const Request& other) const { return offset_ < other.end_ && other.offset_ < end_; }

    RequestTracker& tracker_;
    int64_t offset_, end_;
    Kind kind_;
    State state_ = State::Outside;
    Request* next_ = nullptr;
    Request* previous_ = nullptr;
    WaitList::Waiter* waiter_ = nullptr;  // while it waits for those before it
};

}  // namespace ashlar
