#include "block/accounting.h"
#include "block/block_backend.h"
#include "block/block_graph.h"
#include "block/request_throttle.h"
#include "util/sync_wait.h"

#include <algorithm>
#include <cerrno>
#include <coroutine>

namespace ashlar {

namespace {

// The coroutine of an aio_* request: a root that nobody awaits. What it returns goes to the Completion; if it comes to
// its end before aio_* has returned, from the loop's ready list.
class AioRoot {
public:
    struct promise_type;
    using Handle = std::coroutine_handle<promise_type>;

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        // Not inlined: the frame that it would be inlined into is destroyed in it.
        [[gnu::noinline]] void await_suspend(Handle h) const noexcept {
            if (h.promise().submitted)
                finish(h);
            else
                h.promise().finished = true;
        }
        void await_resume() const noexcept {}
    };
    struct promise_type : PromiseBase, Runnable {
        Completion* completion = nullptr;
        int result = 0;
        bool submitted = false;
        bool finished = false;

        AioRoot get_return_object() noexcept { return AioRoot(Handle::from_promise(*this)); }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        FinalAwaiter final_suspend() const noexcept { return {}; }
        void return_value(int value) noexcept { result = value; }
    };

    void start(Completion& completion) {
        promise_type& promise = handle_.promise();
        promise.completion = &completion;
        handle_.resume();
        promise.submitted = true;
        if (promise.finished) {
            promise.run = [](Runnable& self) { finish(Handle::from_promise(static_cast<promise_type&>(self))); };
            AioContext::current()->schedule(promise);
        }
    }

private:
    explicit AioRoot(Handle handle) : handle_(handle) {}

    static void finish(Handle h) {
        Completion& completion = *h.promise().completion;
        int result = h.promise().result;
        h.destroy();
        completion.finish(result);
    }

    Handle handle_;
};

}  // namespace

// Every request once, as a coroutine of either kind: Task<int> for those that await it, AioRoot for a Completion.
struct BackendIo {
    using Type = BlockAccounting::Type;

    // What is wrong with a request before it is begun; 0: nothing.
    static int check(BlockBackend& backend, int64_t offset, int64_t bytes, bool writes) {
        if (!backend.root_)
            return -ENOMEDIUM;
        if (offset < 0 || bytes < 0 || bytes > kMaxLength || offset > kMaxLength - bytes)
            return -EIO;
        if (!backend.allow_beyond_end_) {
            int64_t length = backend.root_->length();
            if (length < 0)
                return static_cast<int>(length);
            if (offset > length - bytes)
                return -EIO;
        }
        return writes ? check_writable(backend) : 0;
    }
    static int check_writable(BlockBackend& backend) {
        bool may = backend.write_allowed_.load(std::memory_order_relaxed) && !backend.root_->node().is_read_only();
        return may ? 0 : -EPERM;
    }

    static void account(BlockBackend& backend, Type type, int64_t bytes, int64_t start, int ret) {
        backend.accounting_->done(type, bytes, start, now_ns(), ret >= 0);
        // "Cannot do it" is an answer to a question (NoFallback), not an error.
        if (ret < 0 && ret != -ENOTSUP && backend.error_hook_) [[unlikely]]
            backend.error_hook_(type != Type::Read, ret);
    }

    template <class Co>
    static Co read(BlockBackend& backend, int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
        Gate::Pass pass = co_await backend.gate_.enter();
        if (int err = check(backend, offset, bytes, false); err < 0) [[unlikely]] {
            backend.accounting_->invalid(Type::Read);
            co_return err;
        }
        const int64_t start = now_ns();
        if (backend.throttle_) [[unlikely]]
            co_await backend.throttle_->co_admit(false, bytes);
        int ret = co_await backend.root_->co_preadv(offset, bytes, iov, flags);
        account(backend, Type::Read, bytes, start, ret);
        co_return ret;
    }

    static bool read_pages(BlockBackend& backend, int64_t offset, int64_t bytes, PagePipe& pages) {
        if (!backend.gate_.try_enter())
            return false;
        const int64_t start = now_ns();
        const bool done = !backend.throttle_ && check(backend, offset, bytes, false) == 0 &&
                          backend.root_->try_read_pages(offset, bytes, pages);
        if (done)
            account(backend, Type::Read, bytes, start, 0);
        backend.gate_.leave();
        return done;
    }

    static const std::byte* map(BlockBackend& backend, int64_t offset, int64_t bytes, std::optional<Gate::Pass>& pass) {
        if (!backend.gate_.try_enter())
            return nullptr;
        pass.emplace(backend.gate_);
        const std::byte* data = nullptr;
        if (!backend.throttle_ && check(backend, offset, bytes, false) == 0)
            data = backend.root_->try_map(offset, bytes);
        if (!data) {
            pass.reset();
            return nullptr;
        }
        const int64_t now = now_ns();
        account(backend, Type::Read, bytes, now, 0);
        return data;
    }

    // Of data, or, without any, of zeroes.
    template <class Co, bool kZeroes = false>
    static Co write(BlockBackend& backend, int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
        Gate::Pass pass = co_await backend.gate_.enter();
        if (int err = check(backend, offset, bytes, true); err < 0) [[unlikely]] {
            backend.accounting_->invalid(Type::Write);
            co_return err;
        }
        const int64_t start = now_ns();
        if (backend.throttle_) [[unlikely]]
            co_await backend.throttle_->co_admit(true, bytes);
        if (!backend.write_cache_)
            flags |= RequestFlags::Fua;
        int ret;
        if constexpr (kZeroes)
            ret = co_await backend.root_->co_pwrite_zeroes(offset, bytes, flags);
        else
            ret = co_await backend.root_->co_pwritev(offset, bytes, iov, flags);
        if (backend.allow_beyond_end_)
            backend.note_length();
        account(backend, Type::Write, bytes, start, ret);
        if (ret >= 0)
            backend.accounting_->wrote_until(offset + bytes);
        co_return ret;
    }

    template <class Co>
    static Co discard(BlockBackend& backend, int64_t offset, int64_t bytes) {
        Gate::Pass pass = co_await backend.gate_.enter();
        if (int err = check(backend, offset, bytes, true); err < 0) {
            backend.accounting_->invalid(Type::Unmap);
            co_return err;
        }
        const int64_t start = now_ns();
        int ret = co_await backend.root_->co_pdiscard(offset, bytes);
        account(backend, Type::Unmap, bytes, start, ret);
        co_return ret;
    }

    template <class Co>
    static Co flush(BlockBackend& backend) {
        Gate::Pass pass = co_await backend.gate_.enter();
        if (!backend.root_) {
            backend.accounting_->invalid(Type::Flush);
            co_return -ENOMEDIUM;
        }
        const int64_t start = now_ns();
        int ret = co_await backend.root_->co_flush();
        account(backend, Type::Flush, 0, start, ret);
        co_return ret;
    }

    static Task<Result<>> truncate(BlockBackend& backend, int64_t size, bool exact, PreallocMode prealloc,
                                   RequestFlags flags) {
        Gate::Pass pass = co_await backend.gate_.enter();
        if (!backend.root_)
            co_return fail_errno(ENOMEDIUM, "Could not resize");
        auto done = co_await backend.root_->co_truncate(size, exact, prealloc, flags);
        backend.note_length();
        co_return done;
    }

    // Neighbours of the same kind are one answer; so many at most, because each may cost a system call.
    static constexpr unsigned kMaxMerged = 16;

    static Task<BlockStatus> status_above(BlockBackend& backend, int64_t offset, int64_t bytes) {
        Gate::Pass pass = co_await backend.gate_.enter();
        if (int err = check(backend, offset, bytes, false); err < 0)
            co_return BlockStatus{.ret = err};
        BlockDriverState& node = backend.root_->node();
        BlockStatus result = co_await node.co_block_status_above(true, offset, bytes);
        constexpr unsigned kKind = BlockStatus::Data | BlockStatus::Zero | BlockStatus::Allocated |
                                   BlockStatus::Compressed | BlockStatus::OffsetValid;
        for (unsigned i = 1; i < kMaxMerged && result.ret == 0 && result.bytes > 0 && result.bytes < bytes; ++i) {
            BlockStatus next = co_await node.co_block_status_above(true, offset + result.bytes, bytes - result.bytes);
            bool continues = !result.has(BlockStatus::OffsetValid) || next.offset == result.offset + result.bytes;
            if (next.ret < 0 || next.bytes == 0 || next.depth != result.depth || !continues ||
                (next.flags & kKind) != (result.flags & kKind))
                break;
            result.bytes += next.bytes;
            result.flags = next.flags;
        }
        co_return result;
    }
};

Task<int> BlockBackend::co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    return BackendIo::read<Task<int>>(*this, offset, bytes, iov, flags);
}
Task<int> BlockBackend::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    return BackendIo::write<Task<int>>(*this, offset, bytes, iov, flags);
}
Task<int> BlockBackend::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    return BackendIo::write<Task<int>, true>(*this, offset, bytes, {}, flags);
}
Task<int> BlockBackend::co_pdiscard(int64_t offset, int64_t bytes) {
    return BackendIo::discard<Task<int>>(*this, offset, bytes);
}
Task<int> BlockBackend::co_flush() {
    return BackendIo::flush<Task<int>>(*this);
}
Task<Result<>> BlockBackend::co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) {
    return BackendIo::truncate(*this, size, exact, prealloc, flags);
}
Task<BlockStatus> BlockBackend::co_block_status_above(int64_t offset, int64_t bytes) {
    return BackendIo::status_above(*this, offset, bytes);
}

bool BlockBackend::try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages) {
    return BackendIo::read_pages(*this, offset, bytes, pages);
}

const std::byte* BlockBackend::try_map(int64_t offset, int64_t bytes, std::optional<Gate::Pass>& pass) {
    return BackendIo::map(*this, offset, bytes, pass);
}

void BlockBackend::aio_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, Completion& done) {
    BackendIo::read<AioRoot>(*this, offset, bytes, iov, flags).start(done);
}
void BlockBackend::aio_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, Completion& done) {
    BackendIo::write<AioRoot>(*this, offset, bytes, iov, flags).start(done);
}
void BlockBackend::aio_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags, Completion& done) {
    BackendIo::write<AioRoot, true>(*this, offset, bytes, {}, flags).start(done);
}
void BlockBackend::aio_pdiscard(int64_t offset, int64_t bytes, Completion& done) {
    BackendIo::discard<AioRoot>(*this, offset, bytes).start(done);
}
void BlockBackend::aio_flush(Completion& done) {
    BackendIo::flush<AioRoot>(*this).start(done);
}

int BlockBackend::pread(int64_t offset, int64_t bytes, void* data) {
    iovec element{data, static_cast<size_t>(bytes)};
    return sync_wait(graph_.main_context(), co_preadv(offset, bytes, IoVector(element)));
}
int BlockBackend::pwrite(int64_t offset, int64_t bytes, const void* data, RequestFlags flags) {
    iovec element{const_cast<void*>(data), static_cast<size_t>(bytes)};
    return sync_wait(graph_.main_context(), co_pwritev(offset, bytes, IoVector(element), flags));
}
int BlockBackend::pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    return sync_wait(graph_.main_context(), co_pwrite_zeroes(offset, bytes, flags));
}
int BlockBackend::pdiscard(int64_t offset, int64_t bytes) {
    return sync_wait(graph_.main_context(), co_pdiscard(offset, bytes));
}
int BlockBackend::flush() {
    return sync_wait(graph_.main_context(), co_flush());
}
Result<> BlockBackend::truncate(int64_t size, bool exact, PreallocMode prealloc) {
    return sync_wait(graph_.main_context(), co_truncate(size, exact, prealloc));
}

}  // namespace ashlar
