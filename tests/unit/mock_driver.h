// The driver "mock": a disk in memory that insists on the limits it was given, asserts what BlockDriver's contract
// promises it, and remembers what it was asked to do. Any context.
#pragma once

#include "block/block_driver.h"
#include "block/io_vector.h"
#include "util/aio_context.h"
#include "util/json.h"

#include <glib.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <vector>

namespace ashlar {

struct MockOptions {
    int64_t size = 1 << 20;
    uint32_t align = 1;
    uint32_t mem_align = 1;
    uint32_t max_transfer = 0;
    unsigned max_iov = 1024;
    uint32_t zero_align = 0;
    int64_t max_zero = 0;
    uint32_t discard_align = 0;
    int64_t max_discard = 0;
    bool fua = false;
    bool zeroes = false;     // can zero by itself
    bool fast_zero = false;  // and knows NoFallback
    unsigned yields = 0;     // each request lets others run up to so many times

    static const OptionSet<MockOptions>& options() {
        using O = MockOptions;
        static const auto set = OptionSet<O>("mock")
                                    .optional("size", &O::size, "")
                                    .optional("align", &O::align, "")
                                    .optional("mem-align", &O::mem_align, "")
                                    .optional("max-transfer", &O::max_transfer, "")
                                    .optional("max-iov", &O::max_iov, "")
                                    .optional("zero-align", &O::zero_align, "")
                                    .optional("max-zero", &O::max_zero, "")
                                    .optional("discard-align", &O::discard_align, "")
                                    .optional("max-discard", &O::max_discard, "")
                                    .optional("fua", &O::fua, "")
                                    .optional("zeroes", &O::zeroes, "")
                                    .optional("fast-zero", &O::fast_zero, "")
                                    .optional("yields", &O::yields, "");
        return set;
    }
};

class MockDriver final : public BlockDriver {
public:
    MockDriver(const OpenContext& context, const MockOptions& options)
        : BlockDriver(context), options_(options), data_(static_cast<size_t>(options.size)) {}

    static MockDriver& of(BlockDriverState& node) { return static_cast<MockDriver&>(node.driver()); }

    // --- for tests ---
    std::atomic<unsigned> reads{0}, writes{0}, fua_writes{0}, zeroes{0}, unmaps{0}, discards{0}, flushes{0};
    std::atomic<unsigned> inside{0}, drains{0};
    std::atomic<int> fail_with{0};  // every request fails so
    std::atomic<int> fail_flush_with{0};
    int fail_check_perm = 0, checked = 0, set = 0, aborted = 0;
    bool fail_prepare = false;
    int prepared = 0, committed = 0, reopen_aborted = 0;
    ChildPerm perms;
    std::atomic<bool> hold_flushes{false};
    std::function<void(BlockStatus&, int64_t)> status_hook;

    std::vector<std::byte> snapshot() const {
        std::lock_guard guard(lock_);
        return data_;
    }

    // --- BlockDriver ---
    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        Inside in(*this);
        check(offset, bytes, options_.max_transfer);
        check_vector(bytes, iov);
        g_assert_true(flags == RequestFlags::None);
        g_assert_cmpint(offset + bytes, <=, rounded_length());
        ++reads;
        co_await shuffle();
        if (fail_with)
            co_return fail_with;
        std::lock_guard guard(lock_);
        auto present = std::clamp<int64_t>(static_cast<int64_t>(data_.size()) - offset, 0, bytes);
        if (present > 0)
            iov_copy_in(iov, 0, data_.data() + offset, present);
        iov_fill_zero(iov, present, bytes - present);
        co_return 0;
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        Inside in(*this);
        check(offset, bytes, options_.max_transfer);
        check_vector(bytes, iov);
        g_assert_true(flags == RequestFlags::None || (options_.fua && flags == RequestFlags::Fua));
        g_assert_false(node().is_read_only());
        ++writes;
        if (flags == RequestFlags::Fua)
            ++fua_writes;
        co_await shuffle();
        if (fail_with)
            co_return fail_with;
        std::lock_guard guard(lock_);
        if (data_.size() < static_cast<size_t>(offset + bytes))
            data_.resize(static_cast<size_t>(offset + bytes));
        iov_copy_out(iov, 0, data_.data() + offset, bytes);
        co_return 0;
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        Inside in(*this);
        check(offset, bytes, options_.max_zero);
        g_assert_true(has(supported_flags().write_zeroes, flags));
        ++zeroes;
        if (has(flags, RequestFlags::MayUnmap))
            ++unmaps;
        co_await shuffle();
        if (fail_with)
            co_return fail_with;
        if (!options_.zeroes)
            co_return -ENOTSUP;
        std::lock_guard guard(lock_);
        if (data_.size() < static_cast<size_t>(offset + bytes))
            data_.resize(static_cast<size_t>(offset + bytes));
        std::fill_n(data_.begin() + offset, bytes, std::byte{0});
        co_return 0;
    }
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override {
        Inside in(*this);
        check(offset, bytes, options_.max_discard);
        if (options_.discard_align && (!options_.max_discard || options_.discard_align <= options_.max_discard))
            g_assert_true(offset % options_.discard_align == 0 &&
                          (bytes % options_.discard_align == 0 || offset + bytes == length()));
        ++discards;
        co_await shuffle();
        co_return fail_with;
    }
    Task<int> co_flush() override {
        Inside in(*this);
        ++flushes;
        while (hold_flushes)
            co_await co_yield_now();
        co_await shuffle();
        co_return fail_flush_with;
    }
    // Zero: blocks that are; whole blocks at a time.
    Task<BlockStatus> co_block_status(bool, int64_t offset, int64_t bytes) override {
        check(offset, bytes, 0);
        std::lock_guard guard(lock_);
        auto is_zero = [&](int64_t block) {
            auto begin = data_.begin() + std::min<int64_t>(block, data_.size());
            auto end = data_.begin() + std::min<int64_t>(block + options_.align, data_.size());
            return std::all_of(begin, end, [](std::byte b) { return b == std::byte{0}; });
        };
        bool zero = is_zero(offset);
        int64_t n = options_.align;
        while (n < bytes && is_zero(offset + n) == zero)
            n += options_.align;
        BlockStatus status{.flags = (zero ? BlockStatus::Zero : BlockStatus::Data) | BlockStatus::OffsetValid,
                           .bytes = n,
                           .offset = offset};
        if (status_hook)
            status_hook(status, offset);
        co_return status;
    }
    Task<Result<>> co_truncate(int64_t size, bool, PreallocMode, RequestFlags) override {
        std::lock_guard guard(lock_);
        data_.resize(static_cast<size_t>(size));
        co_return {};
    }
    int64_t length() const override {
        std::lock_guard guard(lock_);
        return static_cast<int64_t>(data_.size());
    }
    BlockLimits limits() const override {
        return {.request_alignment = options_.align,
                .min_mem_alignment = options_.mem_align,
                .max_transfer = options_.max_transfer,
                .max_iov = options_.max_iov,
                .pwrite_zeroes_alignment = options_.zero_align,
                .max_pwrite_zeroes = options_.max_zero,
                .pdiscard_alignment = options_.discard_align,
                .max_pdiscard = options_.max_discard};
    }
    SupportedFlags supported_flags() const override {
        return {.write = options_.fua ? RequestFlags::Fua : RequestFlags::None,
                .write_zeroes = (options_.fua ? RequestFlags::Fua : RequestFlags::None) | RequestFlags::MayUnmap |
                                (options_.fast_zero ? RequestFlags::NoFallback : RequestFlags::None)};
    }
    Result<void> check_perm(ChildPerm) override {
        ++checked;
        if (fail_check_perm > 0 && --fail_check_perm == 0)
            return fail("mock refuses");
        return {};
    }
    void set_perm(ChildPerm p) override {
        ++set;
        perms = p;
    }
    void abort_perm() override { ++aborted; }
    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        auto options = context.parse<MockOptions>();
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        g_assert_cmpuint(inside, ==, 0);
        co_await co_yield_now();
        if (fail_prepare)
            co_return fail("mock cannot be reopened");
        ++prepared;
        next_ = *options;
        co_return {};
    }
    void reopen_commit(ReopenContext&) override {
        ++committed;
        options_.yields = next_.yields;
        options_.max_transfer = next_.max_transfer;
    }
    void reopen_abort(ReopenContext&) override { ++reopen_aborted; }
    void drain_begin() override { ++drains; }
    void drain_end() override { --drains; }
    std::string filename() const override { return "mock"; }
    bool may_have_holes() const override { return true; }

private:
    struct Inside {
        MockDriver& driver;
        explicit Inside(MockDriver& d) : driver(d) { ++driver.inside; }
        ~Inside() { --driver.inside; }
    };

    int64_t rounded_length() const { return (length() + options_.align - 1) / options_.align * options_.align; }
    void check(int64_t offset, int64_t bytes, int64_t most) const {
        g_assert_cmpint(offset, >=, 0);
        g_assert_cmpint(bytes, >, 0);
        g_assert_cmpint((offset | bytes) % options_.align, ==, 0);
        if (most)
            g_assert_cmpint(bytes, <=, std::max<int64_t>(most / options_.align * options_.align, options_.align));
    }
    void check_vector(int64_t bytes, IoVector iov) const {
        g_assert_cmpint(iov_length(iov), ==, bytes);
        g_assert_cmpuint(iov.count, <=, options_.max_iov);
        g_assert_true(iov_is_aligned(iov, options_.mem_align, std::min(options_.mem_align, options_.align)));
    }
    Task<void> shuffle() {
        if (options_.yields == 0)
            co_return;
        thread_local std::minstd_rand random(g_random_int());
        for (unsigned n = random() % (options_.yields + 1); n > 0; --n)
            co_await co_yield_now();
    }

    MockOptions options_, next_;
    mutable std::mutex lock_;
    std::vector<std::byte> data_;
};

inline Task<Result<std::unique_ptr<BlockDriver>>> co_open_mock(OpenContext& context) {
    auto options = context.parse<MockOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    co_return std::make_unique<MockDriver>(context, *options);
}

inline constexpr std::string_view kMockPrefix[] = {"mock"};

inline const DriverType kMockDriver{
    .name = "mock",
    .options = []() -> const OptionSchema& { return MockOptions::options(); },
    .co_open = co_open_mock,
    .is_protocol = true,
    .prefixes = kMockPrefix,
    .parse_filename = [](std::string_view) -> Result<Json> { return Json::object(); },
};

}  // namespace ashlar
