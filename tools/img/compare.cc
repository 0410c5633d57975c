// ashlar-img compare: whether two images have the same contents.
#include "block/io_vector.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "tools/img/progress_display.h"
#include "util/buffer_pool.h"
#include "util/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

namespace ashlar::img {

namespace {

constexpr int64_t kChunk = 2 << 20;
constexpr int kEqual = 0, kDifferent = 1, kFailed = 2;

class Compare final : public Command {
public:
    Compare() { image_.flags.read_only = true; }

    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        line.add_text('F', "second-format", "FMT", "the second image's format (default: probed)", second_format_);
        add_cache_option(line, 'T', image_, "cache mode of both images", "Invalid source cache option: {}");
        line.add_flag('p', "progress", "show progress", show_progress_);
        add_quiet_option(line, quiet_);
        line.add_flag('s', "strict", "a different size or allocation is a difference as well", strict_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (arguments.size() != 2)
            return std::unexpected(usage_error("Expecting two image file names"));
        if (quiet_)
            show_progress_ = false;
        names_ = std::move(arguments);
        return {};
    }
    int failure_status() const override { return kFailed; }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        ProgressDisplay display(show_progress_);
        auto first = co_await co_open(graph, names_[0], image_);
        if (!first)
            co_return std::unexpected(std::move(first.error()));
        ImageArguments arguments = image_;
        arguments.format = second_format_;
        auto second = co_await co_open(graph, names_[1], std::move(arguments));
        Result<int> status = kFailed;
        if (second) {
            a_ = first->get();
            b_ = second->get();
            display.start();
            status = co_await co_compare(display.progress());
            co_await display.co_finish(status && *status == kEqual, message_);
            status = co_await co_close(std::move(*second), std::move(status));
        } else {
            status = std::unexpected(std::move(second.error()));
        }
        co_return co_await co_close(std::move(*first), std::move(status));
    }

private:
    void say(std::string_view text) {
        if (!quiet_)
            message_.append(text).append("\n");
    }

    Task<Result<int>> co_compare(Progress& progress) {
        for (size_t i = 0; BlockBackend * image : {a_, b_}) {
            if (const int64_t length = image->length(); length < 0)
                co_return fail_errno(static_cast<int>(-length), "Can't get size of {}", names_[i]);
            ++i;
        }
        const int64_t common = std::min(a_->length(), b_->length()), longest = std::max(a_->length(), b_->length());
        // A disk is so many sectors: what is missing of the last one reads as zeroes.
        const bool same_size = whole_sectors(common) == whole_sectors(longest);
        progress.add_work(static_cast<uint64_t>(longest));
        if (strict_ && !same_size) {
            say("Strict mode: Image size mismatch!");
            co_return kDifferent;
        }
        int64_t at = 0;
        while (at < common) {
            auto compared = co_await co_compare_at(at, common - at);
            if (!compared)
                co_return std::unexpected(std::move(compared.error()));
            if (*compared == 0)
                co_return kDifferent;
            at += *compared;
            progress.add_done(static_cast<uint64_t>(*compared));
        }
        if (!same_size)
            say("Warning: Image size mismatch!");
        if (common != longest) {
            BlockBackend& longer = a_->length() > common ? *a_ : *b_;
            const std::string& name = names_[&longer == b_];
            while (at < longest) {
                auto checked = co_await co_check_zero(longer, name, at, longest - at);
                if (!checked)
                    co_return std::unexpected(std::move(checked.error()));
                if (*checked == 0)
                    co_return kDifferent;
                at += *checked;
                progress.add_done(static_cast<uint64_t>(*checked));
            }
        }
        say("Images are identical.");
        co_return kEqual;
    }

    // The bytes that have been found to be equal; 0: a difference, which has been told.
    Task<Result<int64_t>> co_compare_at(int64_t at, int64_t bytes) {
        const BlockStatus one = co_await a_->co_block_status_above(at, bytes);
        if (one.ret < 0)
            co_return fail("Sector allocation test failed for {}", names_[0]);
        const BlockStatus two = co_await b_->co_block_status_above(at, bytes);
        if (two.ret < 0)
            co_return fail("Sector allocation test failed for {}", names_[1]);
        int64_t n = std::min(one.bytes, two.bytes);
        constexpr unsigned kKind = BlockStatus::Data | BlockStatus::Zero | BlockStatus::Allocated;
        if (strict_ && (one.flags & kKind) != (two.flags & kKind)) {
            say(fmt::format("Strict mode: Offset {} block status mismatch!", at));
            co_return 0;
        }
        const bool zero1 = one.has(BlockStatus::Zero), zero2 = two.has(BlockStatus::Zero);
        if (zero1 && zero2)
            co_return n;
        if (zero1 || zero2)
            co_return co_await co_check_zero(zero1 ? *b_ : *a_, names_[zero1], at, std::min(n, kChunk));
        n = std::min(n, kChunk);
        TaskScope reads;
        int ret2 = 0;
        reads.spawn(co_read(*b_, at, n, right_, ret2));
        int ret1 = 0;
        co_await co_read(*a_, at, n, left_, ret1);
        co_await reads.join();
        if (const int failed = ret1 < 0 ? ret1 : ret2; failed < 0)
            co_return fail_errno(-failed, "Error while reading offset {} of {}", at, names_[ret1 >= 0]);
        if (memcmp(left_.data(), right_.data(), static_cast<size_t>(n)) == 0)
            co_return n;
        // The first sector that differs is told.
        int64_t where = 0;
        while (memcmp(left_.data() + where, right_.data() + where, static_cast<size_t>(sector(n, where))) == 0)
            where += kSectorSize;
        tell_mismatch(at + where);
        co_return 0;
    }

    Task<Result<int64_t>> co_check_zero(BlockBackend& image, const std::string& name, int64_t at, int64_t bytes) {
        const BlockStatus status = co_await image.co_block_status_above(at, bytes);
        if (status.ret < 0)
            co_return fail("Sector allocation test failed for {}", name);
        if (status.has(BlockStatus::Zero))
            co_return status.bytes;
        const int64_t n = std::min(status.bytes, kChunk);
        int ret = 0;
        co_await co_read(image, at, n, left_, ret);
        if (ret < 0)
            co_return fail_errno(-ret, "Error while reading offset {} of {}", at, name);
        iovec all{left_.data(), static_cast<size_t>(n)};
        if (iov_is_zero(IoVector(all)))
            co_return n;
        int64_t where = 0;
        for (;; where += kSectorSize) {
            iovec one{left_.data() + where, static_cast<size_t>(sector(n, where))};
            if (!iov_is_zero(IoVector(one)))
                break;
        }
        tell_mismatch(at + where);
        co_return 0;
    }

    static int64_t whole_sectors(int64_t bytes) { return (bytes + kSectorSize - 1) / kSectorSize; }
    static int64_t sector(int64_t n, int64_t where) { return std::min(kSectorSize, n - where); }
    void tell_mismatch(int64_t at) { say(fmt::format("Content mismatch at offset {}!", at)); }

    static Task<void> co_read(BlockBackend& image, int64_t at, int64_t bytes, const Buffer& buffer, int& ret) {
        iovec element{buffer.data(), static_cast<size_t>(bytes)};
        ret = co_await image.co_preadv(at, bytes, IoVector(element));
    }

    ImageArguments image_;
    std::string second_format_;
    bool show_progress_ = false, quiet_ = false, strict_ = false;
    std::vector<std::string> names_;
    BlockBackend* a_ = nullptr;
    BlockBackend* b_ = nullptr;
    std::string message_;
    Buffer left_{kChunk}, right_{kChunk};
};

}  // namespace

const CommandType kCompare{
    .name = "compare",
    .syntax =
        "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 "
        "filename2",
    .make = make_command<Compare>,
};

}  // namespace ashlar::img
