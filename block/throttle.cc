#include "block/throttle.h"

#include "block/block_graph.h"

namespace ashlar {

const OptionSet<ThrottleOptions>& ThrottleOptions::options() {
    static const auto set =
        OptionSet<ThrottleOptions>("throttle")
            .required("throttle-group", &ThrottleOptions::throttle_group, "id of the throttle-group object")
            .required("file", &ThrottleOptions::file, "the node whose requests are limited");
    return set;
}

namespace {

Result<std::shared_ptr<ThrottleGroup>> find_group(BlockGraph& graph, const std::string& name) {
    auto group = graph.throttle_groups().find(name);
    if (!group)
        return std::unexpected(Error{.message = fmt::format("Throttle group '{}' does not exist", name)}.with_hint(
            fmt::format("Make it with -object throttle-group,id={},limits.…=….", name)));
    return group;
}

Task<Result<std::unique_ptr<BlockDriver>>> co_open_throttle(OpenContext& context) {
    auto options = context.parse<ThrottleOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto group = find_group(context.graph(), options->throttle_group);
    if (!group)
        co_return std::unexpected(std::move(group.error()));
    auto child = co_await context.co_open_child("file", options->file, ChildRole::Filtered | ChildRole::Primary);
    if (!child)
        co_return std::unexpected(std::move(child.error()));
    co_return std::make_unique<ThrottleDriver>(context, std::move(*group));
}

const OptionSchema& schema() {
    return ThrottleOptions::options();
}

}  // namespace

const DriverType kThrottleDriver = {
    .name = "throttle", .options = schema, .co_open = co_open_throttle, .is_filter = true};

ThrottleDriver::ThrottleDriver(const OpenContext& context, std::shared_ptr<ThrottleGroup> group)
    : BlockDriver(context), member_(std::make_unique<ThrottleGroupMember>(std::move(group))) {}

Task<int> ThrottleDriver::co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    co_await member_->co_admit(false, bytes);
    co_return co_await primary_child()->co_preadv(offset, bytes, iov, flags);
}

Task<int> ThrottleDriver::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    co_await member_->co_admit(true, bytes);
    co_return co_await primary_child()->co_pwritev(offset, bytes, iov, flags);
}

Task<int> ThrottleDriver::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    co_await member_->co_admit(true, bytes);
    co_return co_await primary_child()->co_pwrite_zeroes(offset, bytes, flags);
}

Task<int> ThrottleDriver::co_pdiscard(int64_t offset, int64_t bytes) {
    co_await member_->co_admit(true, bytes);
    co_return co_await primary_child()->co_pdiscard(offset, bytes);
}

SupportedFlags ThrottleDriver::supported_flags() const {
    const SupportedFlags below = primary_child()->node().driver().supported_flags();
    return {
        .read = RequestFlags::Prefetch,
        .write = (RequestFlags::Fua | RequestFlags::Compressed | RequestFlags::Unchanged) & below.write,
        .write_zeroes = (RequestFlags::Fua & below.write_zeroes) | RequestFlags::MayUnmap | RequestFlags::NoFallback};
}

Task<Result<void>> ThrottleDriver::co_reopen_prepare(ReopenContext& context) {
    auto options = context.parse<ThrottleOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto group = find_group(node().graph(), options->throttle_group);
    if (!group)
        co_return std::unexpected(std::move(group.error()));
    reopening_ = std::move(*group);
    co_return Result<void>();
}

void ThrottleDriver::reopen_commit(ReopenContext&) {
    if (reopening_ != member_->group())
        member_ = std::make_unique<ThrottleGroupMember>(reopening_);
    reopening_.reset();
}

void ThrottleDriver::reopen_abort(ReopenContext&) {
    reopening_.reset();
}

}  // namespace ashlar
