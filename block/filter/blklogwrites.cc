// The filter `blklogwrites`: everything that is written is also appended to a log, in the format of Linux's
// dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst), with which tools replay what a disk looked
// like at any point.
//
// The log says of an image what a crash may leave of it, so order is what matters. A write is logged when it has
// completed. A flush has its place when it begins: what completes after that it does not promise anything about, and
// comes behind it in the log; one that fails leaves a mark. The log's header counts entries that are there as a whole.
#include <algorithm>
#include <bit>
#include <deque>

#include "block/filter/filter_driver.h"
#include "block/filter/filters.h"
#include "block/keep_options.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"
#include "util/co_mutex.h"

namespace ashlar {

namespace {

constexpr uint64_t kMagic = 0x6a736677736872;
constexpr uint64_t kVersion = 1;
constexpr uint64_t kFlush = 1 << 0, kFua = 1 << 1, kDiscard = 1 << 2, kMark = 1 << 3;
constexpr size_t kSuperSize = 28, kEntrySize = 32;
constexpr uint64_t kMaxSector = 1 << 23;  // exclusive

struct BlklogwritesOptions {
    BlockdevRef file;
    BlockdevRef log;
    Size log_sector_size{512};
    bool log_append = false;
    uint64_t log_super_update_interval = 4096;

    static const OptionSet<BlklogwritesOptions>& options() {
        using O = BlklogwritesOptions;
        static const auto set = OptionSet<O>("blklogwrites")
                                    .required("file", &O::file, "the node whose writes are logged")
                                    .required("log", &O::log, "where the log is written to")
                                    .optional("log-sector-size", &O::log_sector_size, "unit of the log; of a new one")
                                    .optional("log-append", &O::log_append, "go on with a log that exists")
                                    .optional("log-super-update-interval", &O::log_super_update_interval,
                                              "after how many entries the log's header is written again");
        return set;
    }
};

struct Entry {
    uint64_t sector = 0, sectors = 0, flags = 0;
    uint64_t data_bytes = 0;  // that follow it in the log
};

// Where a log that exists goes on.
struct LogEnd {
    uint64_t sector_size = 0, entries = 0;
    int64_t offset = 0;
};

bool is_sector_size(uint64_t size) {
    return std::has_single_bit(size) && size >= 512 && size < kMaxSector;
}

Task<Result<LogEnd>> co_find_end(BdrvChild& log) {
    std::byte super[kSuperSize];
    if (int ret = co_await log.co_pread(0, sizeof super, super); ret < 0)
        co_return fail_errno(-ret, "Could not read log superblock");
    if (load_le<uint64_t>(super) != kMagic)
        co_return fail("The log has no superblock: magic is {:#x}, not {:#x}", load_le<uint64_t>(super), kMagic);
    if (load_le<uint64_t>(super + 8) != kVersion)
        co_return fail("Unsupported log version {}", load_le<uint64_t>(super + 8));
    LogEnd end{.sector_size = load_le<uint32_t>(super + 24), .entries = load_le<uint64_t>(super + 16)};
    if (!is_sector_size(end.sector_size))
        co_return fail("Invalid log sector size {}", end.sector_size);
    const int64_t length = log.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get the size of the log");
    const auto size = static_cast<int64_t>(end.sector_size);
    end.offset = size;
    for (uint64_t i = 0; i < end.entries; i++) {
        // Each takes a sector at least, so that this ends.
        if (end.offset > length - size)
            co_return fail("The log ends before entry {} of {}", i, end.entries);
        std::byte entry[kEntrySize];
        if (int ret = co_await log.co_pread(end.offset, sizeof entry, entry); ret < 0)
            co_return fail_errno(-ret, "Could not read log entry {}", i);
        const uint64_t flags = load_le<uint64_t>(entry + 16), marked = load_le<uint64_t>(entry + 24);
        const uint64_t sectors = flags & kDiscard ? 0
                                 : flags & kMark  ? marked / end.sector_size + (marked % end.sector_size != 0)
                                                  : load_le<uint64_t>(entry + 8);
        end.offset += size;
        if (sectors > static_cast<uint64_t>((length - end.offset) / size + 1))
            co_return fail("The log ends within entry {} of {}, which has {} sectors", i, end.entries, sectors);
        end.offset += static_cast<int64_t>(sectors) * size;
    }
    co_return end;
}

class BlklogwritesDriver final : public FilterDriver {
public:
    BlklogwritesDriver(const OpenContext& context, BdrvChild& file, BdrvChild& log, BlklogwritesOptions options,
                       LogEnd end)
        : FilterDriver(context, file),
          log_(log),
          options_(std::move(options)),
          sector_(end.sector_size),
          end_(end.offset),
          complete_(end.entries),
          super_entries_(options_.log_append ? end.entries : kNoSuper) {}

    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        if (int ret = co_await file().co_pwritev(offset, bytes, iov, flags); ret < 0)
            co_return ret;
        co_return co_await co_log(make(offset, bytes, flags), iov);
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        if (int ret = co_await file().co_pwrite_zeroes(offset, bytes, flags); ret < 0)
            co_return ret;
        co_return co_await co_log(make(offset, bytes, flags), {});
    }
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override {
        if (int ret = co_await file().co_pdiscard(offset, bytes); ret < 0)
            co_return ret;
        Entry entry = make(offset, bytes, RequestFlags::None);
        entry.flags = kDiscard;
        entry.data_bytes = 0;
        co_return co_await co_log(entry, {});
    }
    Task<int> co_flush() override {
        Place place = reserve(0);
        int ret = co_await file().co_flush();
        int logged = co_await co_write_entry(place, {.flags = ret == 0 ? kFlush : kMark}, {});
        if (logged == 0)
            logged = co_await co_update_super(true);
        co_return ret < 0 ? ret : logged;
    }

    BlockLimits limits() const override { return {.request_alignment = static_cast<uint32_t>(sector_)}; }
    SupportedFlags supported_flags() const override {
        SupportedFlags flags = FilterDriver::supported_flags();
        flags.write = RequestFlags::Fua & flags.write;  // what is compressed cannot be told from what is not
        flags.write_zeroes = flags.write_zeroes & ~RequestFlags::NoFallback;
        return flags;
    }
    ChildPerm child_perm(const BdrvChild& child, ChildPerm cumulative) const override {
        using enum BlockPerm;
        if (&child != &log_ || node().is_read_only())
            return FilterDriver::child_perm(child, cumulative);
        return {ConsistentRead | Write | Resize, All & ~(Write | Resize)};
    }
    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override { return co_keep_options(context, options_); }
    Task<int> co_close() override { co_return node().is_read_only() ? 0 : co_await co_update_super(true); }

private:
    struct Place {
        uint64_t index;  // of the entry
        int64_t offset;  // in the log
    };

    Entry make(int64_t offset, int64_t bytes, RequestFlags flags) const {
        return {.sector = static_cast<uint64_t>(offset) / sector_,
                .sectors = static_cast<uint64_t>(bytes) / sector_,
                .flags = has(flags, RequestFlags::Fua) ? kFua : 0,
                .data_bytes = static_cast<uint64_t>(bytes)};
    }
    Place reserve(uint64_t data_bytes) {
        std::lock_guard guard(places_lock_);
        Place place{complete_ + written_.size(), end_};
        written_.push_back(false);
        end_ += static_cast<int64_t>(sector_ + data_bytes);
        return place;
    }
    // The entry is in the log, as a whole.
    void note_written(const Place& place) {
        std::lock_guard guard(places_lock_);
        written_[place.index - complete_] = true;
        while (!written_.empty() && written_.front()) {
            written_.pop_front();
            ++complete_;
        }
    }
    uint64_t complete() {
        std::lock_guard guard(places_lock_);
        return complete_;
    }

    Task<int> co_log(Entry entry, IoVector data) {
        Place place = reserve(entry.data_bytes);
        if (int ret = co_await co_write_entry(place, entry, data); ret < 0)
            co_return ret;
        co_return co_await co_update_super(entry.flags & kFua);
    }
    // `data` empty: zeroes.
    Task<int> co_write_entry(Place place, Entry entry, IoVector data) {
        Buffer head(sector_);
        std::fill_n(head.data(), head.size(), std::byte{0});
        store_le<uint64_t>(head.data(), entry.sector);
        store_le<uint64_t>(head.data() + 8, entry.sectors);
        store_le<uint64_t>(head.data() + 16, entry.flags);
        int ret = co_await log_.co_pwrite(place.offset, static_cast<int64_t>(sector_), head.data());
        const auto bytes = static_cast<int64_t>(entry.data_bytes);
        const int64_t at = place.offset + static_cast<int64_t>(sector_);
        if (ret == 0 && bytes > 0)
            ret = data.count > 0 ? co_await log_.co_pwritev(at, bytes, data)
                                 : co_await log_.co_pwrite_zeroes(at, bytes, RequestFlags::MayUnmap);
        if (ret == 0)
            note_written(place);
        co_return ret;
    }
    Task<int> co_update_super(bool now) {
        const uint64_t counted = super_entries_.load(std::memory_order_relaxed);
        if (!now && counted != kNoSuper && complete() < counted + options_.log_super_update_interval)
            co_return 0;
        auto guard = co_await super_lock_.co_lock();
        const uint64_t entries = complete();
        if (entries == super_entries_.load(std::memory_order_relaxed))
            co_return 0;
        co_return co_await co_write_super(entries);
    }
    Task<int> co_write_super(uint64_t entries) {
        if (int ret = co_await log_.co_flush(); ret < 0)  // the entries before what counts them
            co_return ret;
        Buffer super(sector_);
        std::fill_n(super.data(), super.size(), std::byte{0});
        store_le<uint64_t>(super.data(), kMagic);
        store_le<uint64_t>(super.data() + 8, kVersion);
        store_le<uint64_t>(super.data() + 16, entries);
        store_le<uint32_t>(super.data() + 24, static_cast<uint32_t>(sector_));
        int ret = co_await log_.co_pwrite(0, static_cast<int64_t>(sector_), super.data(), RequestFlags::Fua);
        if (ret == 0)
            super_entries_.store(entries, std::memory_order_relaxed);
        co_return ret;
    }

    BdrvChild& log_;
    const BlklogwritesOptions options_;
    const uint64_t sector_;

    std::mutex places_lock_;
    int64_t end_;               // of the log
    uint64_t complete_;         // entries that are written, and all before them
    std::deque<bool> written_;  // those behind: whether each is

    CoMutex super_lock_;
    static constexpr uint64_t kNoSuper = UINT64_MAX;  // that of an older log may be there
    std::atomic<uint64_t> super_entries_;             // that the header counts
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_blklogwrites(OpenContext& context) {
    auto options = context.parse<BlklogwritesOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (options->log_super_update_interval == 0)
        co_return fail("Invalid log superblock update interval {}", options->log_super_update_interval);
    if (!is_sector_size(options->log_sector_size))
        co_return fail("Invalid log sector size {}", options->log_sector_size.bytes);
    auto file = co_await co_open_filtered(context, options->file);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    auto log = co_await context.co_open_child("log", options->log, ChildRole::Metadata);
    if (!log)
        co_return std::unexpected(std::move(log.error()));
    LogEnd end{.sector_size = options->log_sector_size, .offset = static_cast<int64_t>(options->log_sector_size.bytes)};
    if (options->log_append) {
        auto found = co_await co_find_end(**log);
        if (!found)
            co_return std::unexpected(std::move(found.error()));
        end = *found;
    }
    co_return std::make_unique<BlklogwritesDriver>(context, **file, **log, std::move(*options), end);
}

}  // namespace

const DriverType kBlklogwritesDriver{
    .name = "blklogwrites",
    .options = []() -> const OptionSchema& { return BlklogwritesOptions::options(); },
    .co_open = co_open_blklogwrites,
    .is_filter = true,
};

}  // namespace ashlar
