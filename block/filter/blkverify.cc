// The filter `blkverify`: everything is done to an image and to a raw copy of it, and the program ends when what they
// say is not the same. For tests of image formats: what is read is always checked.
#include <unistd.h>

#include <cstring>

#include "block/filter/filter_driver.h"
#include "block/filter/filters.h"
#include "block/io_vector.h"
#include "block/keep_options.h"
#include "util/buffer_pool.h"
#include "util/json.h"
#include "util/report.h"
#include "util/task_scope.h"

namespace ashlar {

namespace {

struct BlkverifyOptions {
    BlockdevRef test;
    BlockdevRef raw;

    static const OptionSet<BlkverifyOptions>& options() {
        using O = BlkverifyOptions;
        static const auto set = OptionSet<O>("blkverify")
                                    .required("test", &O::test, "the image that is tested")
                                    .required("raw", &O::raw, "the raw image that has the same contents");
        return set;
    }
};

// The test is over. At once: nothing that was wrong is written anywhere.
[[noreturn]] void end(const char* what, int64_t offset, int64_t bytes, const std::string& why) {
    report(Severity::Error, fmt::format("blkverify: {} offset={} bytes={} {}", what, offset, bytes, why));
    _exit(1);
}

Task<void> co_store(Task<int> task, int& result) {
    result = co_await std::move(task);
}

// Both at once.
Task<int> co_both(const char* what, int64_t offset, int64_t bytes, Task<int> test, Task<int> raw) {
    int raw_result = 0;
    TaskScope scope;
    scope.spawn(co_store(std::move(raw), raw_result));
    int result = co_await std::move(test);
    co_await scope.join();
    if (result != raw_result)
        end(what, offset, bytes, fmt::format("return value mismatch {} != {}", result, raw_result));
    co_return result;
}

// Where two blocks of memory first differ; -1: nowhere.
int64_t first_difference(IoVector test, const std::byte* raw) {
    int64_t at = 0;
    for (const iovec& element : test.elements()) {
        const auto* data = static_cast<const std::byte*>(element.iov_base);
        if (element.iov_len > 0 && std::memcmp(data, raw + at, element.iov_len) != 0)
            return at + (std::mismatch(data, data + element.iov_len, raw + at).first - data);
        at += static_cast<int64_t>(element.iov_len);
    }
    return -1;
}

class BlkverifyDriver final : public BlockDriver {
public:
    BlkverifyDriver(const OpenContext& context, BdrvChild& raw, BdrvChild& test)
        : BlockDriver(context), raw_(raw), test_(test) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        Buffer copy = Buffer::try_alloc(static_cast<size_t>(bytes));
        if (!copy)
            co_return -ENOMEM;
        iovec element{copy.data(), static_cast<size_t>(bytes)};
        int ret = co_await co_both("read", offset, bytes, test_.co_preadv(offset, bytes, iov),
                                   raw_.co_preadv(offset, bytes, IoVector(element)));
        if (ret < 0)
            co_return ret;
        if (int64_t at = first_difference(iov, copy.data()); at >= 0)
            end("read", offset, bytes, fmt::format("contents mismatch at offset {}", offset + at));
        co_return 0;
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        return co_both("write", offset, bytes, test_.co_pwritev(offset, bytes, iov, flags),
                       raw_.co_pwritev(offset, bytes, iov, flags));
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        return co_both("write zeroes", offset, bytes, test_.co_pwrite_zeroes(offset, bytes, flags),
                       raw_.co_pwrite_zeroes(offset, bytes, flags));
    }
    // Discards are not for both: what is read afterwards may differ. Nobody needs the raw copy after a crash.
    Task<int> co_flush() override { return test_.co_flush(); }
    int64_t length() const override { return test_.length(); }

    SupportedFlags supported_flags() const override { return {.write_zeroes = RequestFlags::MayUnmap}; }
    Task<Result<>> co_truncate(int64_t, bool, PreallocMode, RequestFlags) override {
        co_return std::unexpected(Error{.message = "blkverify cannot resize images", .code = ENOTSUP});
    }
    // What is data differs between the two; what is read of it does not.
    Task<BlockStatus> co_block_status(bool, int64_t, int64_t bytes) override {
        co_return BlockStatus{.flags = BlockStatus::Data, .bytes = bytes};
    }
    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        return co_keep_options(context, BlkverifyOptions{});
    }
    std::string filename() const override {
        std::string raw = raw_.node().driver().filename(), test = test_.node().driver().filename();
        return raw.empty() || test.empty() ? "" : fmt::format("blkverify:{}:{}", raw, test);
    }
    int64_t allocated_size() const override { return -ENOTSUP; }
    bool may_have_holes() const override { return false; }

private:
    BdrvChild& raw_;
    BdrvChild& test_;
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_blkverify(OpenContext& context) {
    auto options = context.parse<BlkverifyOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto raw = co_await context.co_open_child("raw", options->raw, ChildRole::Filtered | ChildRole::Primary);
    if (!raw)
        co_return std::unexpected(std::move(raw.error()));
    auto test = co_await context.co_open_child("test", options->test, ChildRole::Data);
    if (!test)
        co_return std::unexpected(std::move(test.error()));
    co_return std::make_unique<BlkverifyDriver>(context, **raw, **test);
}

// blkverify:RAW:TEST
Result<Json> parse_filename(std::string_view filename) {
    std::string_view rest = filename.substr(filename.find(':') + 1);
    const size_t colon = rest.find(':');
    if (colon == rest.npos)
        return fail("blkverify requires raw copy and original image path");
    return Json{{"raw", {{"filename", rest.substr(0, colon)}}}, {"test", {{"filename", rest.substr(colon + 1)}}}};
}

constexpr std::string_view kPrefixes[] = {"blkverify"};

}  // namespace

const DriverType kBlkverifyDriver{
    .name = "blkverify",
    .options = []() -> const OptionSchema& { return BlkverifyOptions::options(); },
    .co_open = co_open_blkverify,
    .is_protocol = true,
    .is_filter = true,
    .prefixes = kPrefixes,
    .parse_filename = parse_filename,
};

}  // namespace ashlar
