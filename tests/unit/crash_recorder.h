// What a crash may leave of files: the driver "recorder" keeps them in memory and logs what is done to them, and
// CrashReplay makes any state of them from the log. A flush of a file makes stable what was done to that file before;
// of the rest any part may be there, in the order in which it was done.
#pragma once

#include "block/block_driver.h"
#include "block/io_vector.h"
#include "tests/unit/qcow2_fixture.h"

#include <algorithm>
#include <vector>

namespace ashlar::test {

struct CrashRecord {
    enum class What : uint8_t { Write, Resize, Flush };
    What what;
    size_t file;
    int64_t offset = 0;  // or the new length
    Bytes data = {};
};

// The files, and the log of what was done to them. One at a time.
struct CrashDisk {
    std::vector<Bytes> files;
    std::vector<CrashRecord> log;

    static inline CrashDisk* current = nullptr;
    explicit CrashDisk(size_t number) : files(number) { current = this; }
    ~CrashDisk() { current = nullptr; }
    CrashDisk(const CrashDisk&) = delete;

    static void apply(Bytes& file, const CrashRecord& record) {
        auto offset = static_cast<size_t>(record.offset);
        if (record.what == CrashRecord::What::Resize)
            return file.resize(offset);
        file.resize(std::max(file.size(), offset + record.data.size()));
        std::ranges::copy(record.data, file.begin() + record.offset);
    }
    void done(CrashRecord record) {
        if (record.what != CrashRecord::What::Flush)
            apply(files[record.file], record);
        log.push_back(std::move(record));
    }
};

struct RecorderOptions {
    unsigned file = 0;

    static const OptionSet<RecorderOptions>& options() {
        static const auto set =
            OptionSet<RecorderOptions>("recorder").optional("file", &RecorderOptions::file, "which one");
        return set;
    }
};

class Recorder final : public BlockDriver {
public:
    Recorder(const OpenContext& context, size_t file) : BlockDriver(context), file_(file) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        iov_copy_in(iov, 0, bytes_of().data() + offset, bytes);
        co_return 0;
    }
    // Takes a while, so that requests overtake each other.
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        for (unsigned turns = g_test_rand_int_range(0, 4); turns > 0; turns--)
            co_await co_yield_now();
        CrashRecord record{CrashRecord::What::Write, file_, offset, Bytes(static_cast<size_t>(bytes))};
        iov_copy_out(iov, 0, record.data.data(), bytes);
        CrashDisk::current->done(std::move(record));
        co_return 0;
    }
    // What is discarded is gone at once, and something else in its place.
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override {
        auto n = std::min(bytes, length() - offset);
        CrashDisk::current->done(
            {CrashRecord::What::Write, file_, offset, Bytes(static_cast<size_t>(n), std::byte{0xdd})});
        co_return 0;
    }
    Task<int> co_flush() override {
        // What completed before the flush began is what it covers; a later write may be stable as well, or not.
        CrashDisk::current->done({CrashRecord::What::Flush, file_});
        co_await co_yield_now();
        co_return 0;
    }
    Task<Result<>> co_truncate(int64_t size, bool, PreallocMode, RequestFlags) override {
        CrashDisk::current->done({CrashRecord::What::Resize, file_, size});
        co_return {};
    }
    int64_t length() const override { return static_cast<int64_t>(bytes_of().size()); }

private:
    Bytes& bytes_of() const { return CrashDisk::current->files[file_]; }

    const size_t file_;
};

inline Task<Result<std::unique_ptr<BlockDriver>>> co_open_recorder(OpenContext& context) {
    auto options = context.parse<RecorderOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    co_return std::make_unique<Recorder>(context, options->file);
}

inline const DriverType kRecorder = {.name = "recorder",
                                     .options = [] -> const OptionSchema& { return RecorderOptions::options(); },
                                     .co_open = co_open_recorder,
                                     .is_protocol = true};

class CrashReplay {
public:
    CrashReplay(std::vector<Bytes> initial, const std::vector<CrashRecord>& log)
        : stable_(std::move(initial)), log_(log), pending_(stable_.size()) {}

    // Goes on to the next flush, before it; false: there is none.
    bool next() {
        if (position_ < log_.size() && log_[position_].what == CrashRecord::What::Flush)
            take(position_++);
        for (; position_ < log_.size() && log_[position_].what != CrashRecord::What::Flush; position_++)
            pending_[log_[position_].file].push_back(&log_[position_]);
        return position_ < log_.size();
    }
    size_t position() const { return position_; }  // in the log

    // A state of the files in which a crash may leave them.
    std::vector<Bytes> crashed() const {
        std::vector<Bytes> files = stable_;
        for (size_t file = 0; file < files.size(); file++) {
            // All but a few, or a few, or about half.
            int of_ten = g_test_rand_int_range(1, 10);
            for (const CrashRecord* record : pending_[file])
                if (g_test_rand_int_range(0, 10) < of_ten)
                    CrashDisk::apply(files[file], *record);
        }
        return files;
    }
    // Everything that was done.
    const std::vector<Bytes>& complete() {
        while (next())
            continue;
        for (size_t file = 0; file < stable_.size(); file++)
            settle(file);
        return stable_;
    }

private:
    void take(size_t flush) { settle(log_[flush].file); }
    void settle(size_t file) {
        for (const CrashRecord* record : pending_[file])
            CrashDisk::apply(stable_[file], *record);
        pending_[file].clear();
    }

    std::vector<Bytes> stable_;
    const std::vector<CrashRecord>& log_;
    std::vector<std::vector<const CrashRecord*>> pending_;
    size_t position_ = 0;
};

inline size_t count_flushes(const std::vector<CrashRecord>& log) {
    return static_cast<size_t>(std::ranges::count(log, CrashRecord::What::Flush, &CrashRecord::what));
}

}  // namespace ashlar::test
