#include "block/null/null.h"

#include "block/block_node.h"
#include "block/io_vector.h"
#include "util/aio_context.h"
#include "util/json.h"

namespace ashlar {

namespace {

struct NullOptions {
    Size size{1 << 30};
    uint64_t latency_ns = 0;
    bool read_zeroes = false;

    static const OptionSet<NullOptions>& options() {
        static const auto set =
            OptionSet<NullOptions>("null")
                .optional("size", &NullOptions::size, "of the disk")
                .optional("latency-ns", &NullOptions::latency_ns, "how long each request takes")
                .optional("read-zeroes", &NullOptions::read_zeroes, "fill with zeroes what is read");
        return set;
    }
};

Result<NullOptions> check(Result<NullOptions> options) {
    if (options && options->size > static_cast<uint64_t>(kMaxLength))
        return fail("Parameter 'size' expects a size of at most {}", kMaxLength);
    if (options && options->latency_ns > static_cast<uint64_t>(INT64_MAX))
        return fail("Parameter 'latency-ns' expects at most {}", INT64_MAX);
    return options;
}

class NullDriver final : public BlockDriver {
public:
    NullDriver(const OpenContext& context, const NullOptions& options, bool later)
        : BlockDriver(context), later_(later) {
        apply(options);
    }

    Task<int> co_preadv(int64_t, int64_t bytes, IoVector iov, RequestFlags) override {
        if (read_zeroes_)
            iov_fill_zero(iov, 0, bytes);
        return co_finish();
    }
    Task<int> co_pwritev(int64_t, int64_t, IoVector, RequestFlags) override { return co_finish(); }
    Task<int> co_pwrite_zeroes(int64_t, int64_t, RequestFlags) override { return co_finish(); }
    Task<int> co_pdiscard(int64_t, int64_t) override { return co_finish(); }
    Task<int> co_flush() override { return co_finish(); }
    Task<BlockStatus> co_block_status(bool, int64_t offset, int64_t bytes) override {
        co_return BlockStatus{
            .flags = BlockStatus::OffsetValid | (read_zeroes_ ? BlockStatus::Zero : BlockStatus::Data),
            .bytes = bytes,
            .offset = offset};
    }
    int64_t length() const override { return length_.get(); }

    SupportedFlags supported_flags() const override {
        return {.write = RequestFlags::Fua,
                .write_zeroes = RequestFlags::Fua | RequestFlags::MayUnmap | RequestFlags::NoFallback};
    }
    std::string filename() const override {
        Json given = *node().options();
        given.erase("driver");
        given.erase("filename");
        return given.empty() ? fmt::format("{}://", node().type().name) : "";
    }
    int64_t allocated_size() const override { return 0; }
    bool may_have_holes() const override { return read_zeroes_; }
    bool can_multi_conn() const override { return true; }

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        auto options = check(context.parse<NullOptions>());
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        next_ = *options;
        co_return {};
    }
    void reopen_commit(ReopenContext&) override { apply(next_); }

private:
    void apply(const NullOptions& options) {
        length_.set(static_cast<int64_t>(options.size.bytes));
        latency_ns_ = static_cast<int64_t>(options.latency_ns);
        read_zeroes_ = options.read_zeroes;
    }
    Task<int> co_finish() {
        if (latency_ns_ > 0)
            co_await co_sleep(latency_ns_);
        else if (later_)
            co_await co_yield_now();
        co_return 0;
    }

    const bool later_;
    ImageLength length_;
    int64_t latency_ns_ = 0;
    bool read_zeroes_ = false;
    NullOptions next_;
};

template <bool kLater>
Task<Result<std::unique_ptr<BlockDriver>>> co_open_null(OpenContext& context) {
    auto options = check(context.parse<NullOptions>());
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    co_return std::make_unique<NullDriver>(context, *options, kLater);
}

Result<Json> parse_null_name(std::string_view filename) {
    if (!filename.ends_with("://") || filename.find("://") != filename.size() - 3)
        return fail("{}: the only file name of this driver is '{}://'", filename,
                    filename.substr(0, filename.find(':')));
    return Json::object();
}

constexpr std::string_view kCoPrefix[] = {"null-co"};
constexpr std::string_view kAioPrefix[] = {"null-aio"};

const OptionSchema& null_options() {
    return NullOptions::options();
}

}  // namespace

const DriverType kNullCoDriver{
    .name = "null-co",
    .options = null_options,
    .co_open = co_open_null<false>,
    .is_protocol = true,
    .prefixes = kCoPrefix,
    .parse_filename = parse_null_name,
};

const DriverType kNullAioDriver{
    .name = "null-aio",
    .options = null_options,
    .co_open = co_open_null<true>,
    .is_protocol = true,
    .prefixes = kAioPrefix,
    .parse_filename = parse_null_name,
};

}  // namespace ashlar
