#include "block/nbd/nbd.h"

#include <algorithm>
#include <cerrno>

#include "block/block_node.h"
#include "block/keep_options.h"
#include "block/nbd/options.h"

namespace ashlar {

namespace {

using nbd::ClientSession;

Result<NbdOptions> parse_options(const auto& context, Typing typing) {
    if (typing == Typing::Strict)
        return context.template parse<NbdOptions>();
    auto flat = context.template parse<NbdFlatOptions>();
    if (!flat)
        return std::unexpected(std::move(flat.error()));
    return resolve_flat_options(std::move(*flat));
}

class NbdDriver final : public BlockDriver {
public:
    NbdDriver(const OpenContext& context, NbdOptions options, std::unique_ptr<ClientSession> session)
        : BlockDriver(context), options_(std::move(options)), typing_(context.typing()), session_(std::move(session)) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        return request(has(flags, RequestFlags::Prefetch) ? nbd::kCmdCache : nbd::kCmdRead, 0, offset, bytes, iov);
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        return request(nbd::kCmdWrite, fua(flags), offset, bytes, iov);
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        if (!session_->has_flag(nbd::kSendWriteZeroes))
            return co_refuse();
        uint16_t wire = fua(flags);
        if (!has(flags, RequestFlags::MayUnmap))
            wire |= nbd::kCmdFlagNoHole;
        if (has(flags, RequestFlags::NoFallback))
            wire |= nbd::kCmdFlagFastZero;
        return request(nbd::kCmdWriteZeroes, wire, offset, bytes);
    }
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override {
        if (!session_->has_flag(nbd::kSendTrim))
            return co_refuse();
        return request(nbd::kCmdTrim, 0, offset, bytes);
    }
    Task<int> co_flush() override {
        if (!session_->has_flag(nbd::kSendFlush))
            co_return 0;
        co_return co_await request(nbd::kCmdFlush, 0, 0, 0);
    }
    Task<BlockStatus> co_block_status(bool, int64_t offset, int64_t bytes) override;
    // The protocol cannot; but what has the size already, or may be longer than it need be, is fine.
    Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode, RequestFlags) override {
        if (size > length())
            co_return std::unexpected(Error{.message = "Cannot grow NBD nodes", .code = EINVAL});
        if (exact && size < length())
            co_return std::unexpected(Error{.message = "Cannot resize NBD nodes", .code = ENOTSUP});
        co_return {};
    }
    int64_t length() const override { return static_cast<int64_t>(session_->details().info.size); }

    BlockLimits limits() const override;
    SupportedFlags supported_flags() const override {
        using enum RequestFlags;
        const RequestFlags durable = session_->has_flag(nbd::kSendFua) ? Fua : None;
        return {.read = session_->has_flag(nbd::kSendCache) ? Prefetch : None,
                .write = durable,
                .write_zeroes = session_->has_flag(nbd::kSendWriteZeroes)
                                    ? durable | MayUnmap | (session_->has_flag(nbd::kSendFastZero) ? NoFallback : None)
                                    : None};
    }

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override;
    Task<int> co_close() override {
        co_await session_->co_close();
        co_return 0;
    }

    std::string filename() const override {
        auto address = options_.server.address("server");
        return address ? nbd_filename(*address, options_.common.export_name) : "";
    }
    int64_t allocated_size() const override { return -ENOTSUP; }
    bool may_have_holes() const override { return session_->has_context(); }
    bool is_rotational() const override { return session_->has_flag(nbd::kRotational); }
    // All that is written through this node is covered by a flush of it, however many connections it has.
    bool can_multi_conn() const override { return true; }

private:
    Task<int> request(uint16_t command, uint16_t flags, int64_t offset, int64_t bytes, IoVector iov = {}) {
        return session_->co_request(command, flags, static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes),
                                    iov.elements());
    }
    static uint16_t fua(RequestFlags flags) { return has(flags, RequestFlags::Fua) ? nbd::kCmdFlagFua : 0; }
    static Task<int> co_refuse() { co_return -ENOTSUP; }
    // Of the lengths of requests without data.
    int64_t longest() const {
        const bool extended = session_->style() == nbd::HeaderStyle::Extended;
        return extended ? kMaxLength : UINT32_MAX;
    }

    const NbdOptions options_;
    const Typing typing_;
    std::unique_ptr<ClientSession> session_;
};

BlockLimits NbdDriver::limits() const {
    BlockLimits limits;
    const auto& sizes = session_->details().block_sizes;
    // A server that says nothing need not take less than a sector (proto.md, "Block size constraints"), unless this
    // leaves an end out of reach.
    limits.request_alignment = sizes ? sizes->minimum : length() % kSectorSize == 0 ? kSectorSize : 1;
    limits.max_transfer = sizes ? std::min(sizes->maximum, nbd::kMaxPayload) : nbd::kMaxPayload;
    limits.opt_transfer = sizes ? std::min(sizes->preferred, limits.max_transfer) : 0;
    const int64_t most = longest() - longest() % limits.request_alignment;
    limits.max_pwrite_zeroes = most;
    limits.max_pdiscard = most;
    return limits;
}

Task<BlockStatus> NbdDriver::co_block_status(bool, int64_t offset, int64_t bytes) {
    BlockStatus status{.flags = BlockStatus::Data | BlockStatus::OffsetValid, .bytes = bytes, .offset = offset};
    if (!session_->has_context())
        co_return status;
    const int64_t unit = limits().request_alignment;
    bytes = std::min(bytes, longest() - longest() % unit);
    auto [ret, extent] =
        co_await session_->co_block_status(static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes));
    if (ret < 0)
        co_return BlockStatus{.ret = ret};
    status.bytes = std::min(bytes, static_cast<int64_t>(std::min<uint64_t>(extent.length, kMaxLength)));
    if (status.bytes % unit != 0) {
        // Of a block that it splits, nothing is known.
        status.bytes -= status.bytes % unit;
        if (status.bytes == 0) {
            status.bytes = unit;
            co_return status;
        }
    }
    const bool hole = extent.status & nbd::kStateHole, zero = extent.status & nbd::kStateZero;
    // A hole that does not read as zeroes is to be read like data all the same, unless it is a bit of x-dirty-bitmap.
    status.flags =
        hole && !zero && options_.common.dirty_bitmap ? 0u : BlockStatus::OffsetValid | BlockStatus::Allocated;
    status.flags |= (hole ? 0u : +BlockStatus::Data) | (zero ? +BlockStatus::Zero : 0u);
    co_return status;
}

Result<> check_writable(const ClientSession& session, const NodeFlags& flags) {
    if (flags.read_only || !session.has_flag(nbd::kReadOnly))
        return {};
    return std::unexpected(
        Error{.message = "the NBD server's export is read-only", .hint = "Open it with read-only=on.", .code = EACCES});
}

Task<Result<void>> NbdDriver::co_reopen_prepare(ReopenContext& context) {
    auto options = parse_options(context, typing_);
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (auto kept = check_options_kept(options_, *options); !kept)
        co_return kept;
    co_return check_writable(*session_, context.new_flags());
}

Task<Result<std::unique_ptr<BlockDriver>>> co_open_nbd(OpenContext& context) {
    auto options = parse_options(context, context.typing());
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto how = session_options(*options);
    if (!how)
        co_return std::unexpected(std::move(how.error()));
    auto session = co_await ClientSession::co_open(std::move(*how));
    if (!session)
        co_return std::unexpected(std::move(session.error()));

    Result<> fine;
    if (options->common.dirty_bitmap && !(*session)->has_context())
        fine = fail("requested x-dirty-bitmap {} not found", *options->common.dirty_bitmap);
    else if (auto writable = check_writable(**session, context.flags()); !writable)
        fine = context.fall_back_to_read_only(std::move(writable.error()));
    if (!fine) {
        co_await (*session)->co_close();
        co_return std::unexpected(std::move(fine.error()));
    }
    co_return std::make_unique<NbdDriver>(context, std::move(*options), std::move(*session));
}

constexpr std::string_view kPrefixes[] = {"nbd", "nbd+tcp", "nbd+unix", "nbd+vsock", "nbds", "nbds+unix", "nbds+vsock"};

const OptionSchema& schema() {
    return NbdOptions::options();
}

}  // namespace

const DriverType kNbdDriver{
    .name = "nbd",
    .options = schema,
    .co_open = co_open_nbd,
    .is_protocol = true,
    .prefixes = kPrefixes,
    .parse_filename = parse_nbd_filename,
};

}  // namespace ashlar
