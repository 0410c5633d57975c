// Blkdebug: the rules of a `blkdebug` node: which requests fail, and where they stop (docs/blkdebug.md).
//
// The block layer tells the node of events (BlkdebugEvent) while it handles requests. An event makes the error rules
// that wait for it the active ones, in place of those that were active; it may change the state, a number that rules
// can ask for; and it suspends the request that it happens to if there is a breakpoint for it. Then each request to the
// node below fails with the first active rule that it matches. Any thread.
#pragma once

#include <cerrno>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/blkdebug_event.h"
#include "util/options.h"
#include "util/task.h"

namespace ashlar {

class BlockDriverState;

enum class BlkdebugIoType : uint8_t { Read, Write, WriteZeroes, Discard, Flush, BlockStatus };
constexpr auto enum_names(BlkdebugIoType) {
    using E = BlkdebugIoType;
    return std::to_array<EnumName<E>>({{E::Read, "read"},
                                       {E::Write, "write"},
                                       {E::WriteZeroes, "write-zeroes"},
                                       {E::Discard, "discard"},
                                       {E::Flush, "flush"},
                                       {E::BlockStatus, "block-status"}});
}

struct BlkdebugInjectError {
    BlkdebugEvent event = BlkdebugEvent::None;
    std::optional<int32_t> state;          // default: in any
    std::optional<BlkdebugIoType> iotype;  // default: any but block-status
    uint16_t error = EIO;                  // 0: the requests that match succeed
    std::optional<uint64_t> sector;        // of 512 bytes; default: wherever
    bool once = false;
    bool immediately = false;  // before the loop has had a turn

    static const OptionSet<BlkdebugInjectError>& options();
};

struct BlkdebugSetState {
    BlkdebugEvent event = BlkdebugEvent::None;
    std::optional<int32_t> state;
    int32_t new_state = 1;

    static const OptionSet<BlkdebugSetState>& options();
};

class Blkdebug {
public:
    Blkdebug() = default;
    Blkdebug(const Blkdebug&) = delete;
    ~Blkdebug();  // nobody is suspended

    void add(BlkdebugInjectError rule);
    void add(BlkdebugSetState rule);

    // --- the node's ---
    [[nodiscard]] Task<void> co_event(BlkdebugEvent event);
    // 0, or the error that the request is to fail with.
    [[nodiscard]] Task<int> co_check(BlkdebugIoType type, int64_t offset, int64_t bytes);
    // Between the two nobody is, or gets, suspended. Nests.
    void drain_begin();
    void drain_end();

    // --- the tester's ---
    // The next request that `event` happens to is suspended, once, under the name `tag`.
    void add_breakpoint(BlkdebugEvent event, std::string tag);
    bool remove_breakpoint(std::string_view tag);  // and resumes those it has suspended; false: there is none
    bool resume(std::string_view tag);             // the request that waits longest; false: none is suspended so
    bool is_suspended(std::string_view tag) const;
    // Told of what is suspended, and of what is resumed by its tag; in the thread where that happens. Set while there
    // are no requests.
    using Listener = std::function<void(bool suspended, std::string_view tag)>;
    void set_listener(Listener listener) { listener_ = std::move(listener); }

private:
    struct ErrorRule {
        BlkdebugInjectError rule;
        bool active = false;
    };
    struct Breakpoint {
        BlkdebugEvent event;
        std::string tag;
    };
    struct Suspended;

    bool take_breakpoints(BlkdebugEvent event, Suspended& request);
    void wake(std::list<Suspended*>::iterator request);

    mutable std::mutex lock_;
    int32_t state_ = 1;
    std::list<ErrorRule> errors_;
    std::vector<BlkdebugSetState> state_changes_;
    std::list<Breakpoint> breakpoints_;
    std::list<Suspended*> suspended_;
    unsigned drained_ = 0;
    Listener listener_;
};

// The rules of the blkdebug node nearest below `node` (or itself), by way of primary children; null if there is none.
Blkdebug* find_blkdebug(BlockDriverState& node);

}  // namespace ashlar
