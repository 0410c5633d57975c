// TestDisk: a disk in memory whose requests a test can hold back, fail and count; TestDiskDriver makes a node of it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <vector>

#include "block/block_driver.h"
#include "util/task.h"
#include "util/wait_list.h"

namespace ashlar {

class TestDisk {
public:
    explicit TestDisk(size_t bytes) : size(bytes), content((bytes + 4095) / 4096 * 4096) {}

    const size_t size;  // the content goes on to the end of the block
    std::vector<std::byte> content;
    std::map<int64_t, int64_t> holes;  // offset to length; they read as the content's zeroes
    int fail_with = 0;                 // a positive errno for every request
    int fail_status_with = 0;          // a positive errno for block status only
    bool fast_zero = true;
    bool rotational = false;
    uint32_t alignment = 1;
    std::atomic<unsigned> reads = 0, writes = 0, flushes = 0, discards = 0, fua_writes = 0, status_calls = 0;
    std::atomic<unsigned> prefetches = 0;
    RequestFlags last_zero_flags = RequestFlags::None;

    // Requests wait from hold() to release(), in one AioContext.
    void hold() { holding_ = true; }
    void release() {
        holding_ = false;
        held_.wake_all();
    }
    unsigned waiting() const { return waiting_; }

    Task<int> co_read(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
        reads++;
        if (int ret = co_await co_begin(); ret < 0)
            co_return ret;
        if (has(flags, RequestFlags::Prefetch)) {
            prefetches++;
            co_return 0;
        }
        const std::byte* from = content.data() + offset;
        for (const iovec& one : iov.elements()) {
            std::memcpy(one.iov_base, from, one.iov_len);
            from += one.iov_len;
        }
        co_return from == content.data() + offset + bytes ? 0 : -EFAULT;
    }
    Task<int> co_write(int64_t offset, IoVector iov, RequestFlags flags) {
        writes++;
        fua_writes += has(flags, RequestFlags::Fua);
        if (int ret = co_await co_begin(); ret < 0)
            co_return ret;
        std::byte* to = content.data() + offset;
        for (const iovec& one : iov.elements()) {
            std::memcpy(to, one.iov_base, one.iov_len);
            to += one.iov_len;
        }
        co_return 0;
    }
    Task<int> co_write_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
        last_zero_flags = flags;
        fua_writes += has(flags, RequestFlags::Fua);
        if (has(flags, RequestFlags::NoFallback) && !fast_zero)
            co_return -ENOTSUP;
        if (int ret = co_await co_begin(); ret < 0)
            co_return ret;
        std::memset(content.data() + offset, 0, static_cast<size_t>(bytes));
        co_return 0;
    }
    Task<int> co_discard() {
        discards++;
        co_return co_await co_begin();
    }
    Task<int> co_flush() {
        flushes++;
        co_return co_await co_begin();
    }
    Task<BlockStatus> co_status(int64_t offset, int64_t bytes) {
        status_calls++;
        if (int ret = co_await co_begin(); ret < 0 || fail_status_with)
            co_return BlockStatus{.ret = ret < 0 ? ret : -fail_status_with};
        int64_t end = offset + bytes;
        auto next = holes.upper_bound(offset);
        if (next != holes.begin()) {
            auto [begin, length] = *std::prev(next);
            if (offset < begin + length)
                co_return BlockStatus{.flags = BlockStatus::Zero, .bytes = std::min(end, begin + length) - offset};
        }
        if (next != holes.end())
            end = std::min(end, next->first);
        co_return BlockStatus{.flags = BlockStatus::Data | BlockStatus::Allocated, .bytes = end - offset, .depth = 1};
    }

private:
    struct Held : WaitList::Waiter {
        TestDisk& disk;
        explicit Held(TestDisk& d) : disk(d) {}
        bool await_ready() const { return !disk.holding_; }
        void await_suspend(std::coroutine_handle<> h) {
            prepare(h);
            disk.held_.push(*this);
        }
        void await_resume() const noexcept {}
    };
    Task<int> co_begin() {
        waiting_++;
        co_await Held(*this);
        waiting_--;
        co_return -fail_with;
    }

    std::atomic<bool> holding_ = false;
    std::atomic<unsigned> waiting_ = 0;
    WaitList held_;
};

// The disk that the next node of the driver "test-disk" shows.
inline TestDisk* g_test_disk = nullptr;

class TestDiskDriver final : public BlockDriver {
public:
    explicit TestDiskDriver(const OpenContext& context) : BlockDriver(context), disk_(*g_test_disk) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        return disk_.co_read(offset, bytes, iov, flags);
    }
    Task<int> co_pwritev(int64_t offset, int64_t, IoVector iov, RequestFlags flags) override {
        return disk_.co_write(offset, iov, flags);
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        return disk_.co_write_zeroes(offset, bytes, flags);
    }
    Task<int> co_pdiscard(int64_t, int64_t) override { return disk_.co_discard(); }
    Task<int> co_flush() override { return disk_.co_flush(); }
    Task<BlockStatus> co_block_status(bool, int64_t offset, int64_t bytes) override {
        return disk_.co_status(offset, bytes);
    }
    int64_t length() const override { return static_cast<int64_t>(disk_.size); }
    BlockLimits limits() const override { return {.request_alignment = disk_.alignment}; }
    SupportedFlags supported_flags() const override {
        constexpr RequestFlags kZero = RequestFlags::Fua | RequestFlags::MayUnmap | RequestFlags::NoFallback;
        return {.read = RequestFlags::Prefetch, .write = RequestFlags::Fua, .write_zeroes = kZero};
    }
    std::string filename() const override { return "test-disk://"; }
    int64_t allocated_size() const override { return length(); }
    bool may_have_holes() const override { return true; }
    bool is_rotational() const override { return disk_.rotational; }
    bool can_multi_conn() const override { return true; }

    struct Options {
        static const OptionSet<Options>& options() {
            static const auto set = OptionSet<Options>("test-disk");
            return set;
        }
    };
    static Task<Result<std::unique_ptr<BlockDriver>>> co_open(OpenContext& context) {
        auto options = context.parse<Options>();
        if (!options)
            co_return std::unexpected(std::move(options).error());
        co_return std::make_unique<TestDiskDriver>(context);
    }
    static const OptionSchema& schema() { return Options::options(); }
    static constexpr DriverType type() {
        return {.name = "test-disk", .options = schema, .co_open = co_open, .is_protocol = true};
    }

private:
    TestDisk& disk_;
};

}  // namespace ashlar
