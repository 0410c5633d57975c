// The filter `throttle`: its requests keep to the limits of a throttle group (docs/block.md, "Throttling").
#include "block/block_graph.h"
#include "block/filter/filter_driver.h"
#include "block/filter/filters.h"
#include "block/throttle_groups.h"

namespace ashlar {

namespace {

struct ThrottleOptions {
    std::string throttle_group;
    BlockdevRef file;

    static const OptionSet<ThrottleOptions>& options() {
        static const auto set =
            OptionSet<ThrottleOptions>("throttle")
                .required("throttle-group", &ThrottleOptions::throttle_group, "id of the throttle-group object")
                .required("file", &ThrottleOptions::file, "the node whose requests are limited");
        return set;
    }
};

Result<std::shared_ptr<ThrottleGroup>> find_group(BlockGraph& graph, const std::string& name) {
    auto group = graph.throttle_groups().find(name);
    if (!group)
        return std::unexpected(Error{.message = fmt::format("Throttle group '{}' does not exist", name)}.with_hint(
            fmt::format("Make it with -object throttle-group,id={},limits.…=….", name)));
    return group;
}

class ThrottleDriver final : public FilterDriver {
public:
    ThrottleDriver(const OpenContext& context, BdrvChild& file, std::shared_ptr<ThrottleGroup> group)
        : FilterDriver(context, file), member_(std::make_unique<ThrottleGroupMember>(std::move(group))) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        co_await member_->co_admit(false, bytes);
        co_return co_await file().co_preadv(offset, bytes, iov, flags);
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        co_await member_->co_admit(true, bytes);
        co_return co_await file().co_pwritev(offset, bytes, iov, flags);
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        co_await member_->co_admit(true, bytes);
        co_return co_await file().co_pwrite_zeroes(offset, bytes, flags);
    }
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override {
        co_await member_->co_admit(true, bytes);
        co_return co_await file().co_pdiscard(offset, bytes);
    }

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        auto options = context.parse<ThrottleOptions>();
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        auto group = find_group(node().graph(), options->throttle_group);
        if (!group)
            co_return std::unexpected(std::move(group.error()));
        reopening_ = std::move(*group);
        co_return Result<void>();
    }
    void reopen_commit(ReopenContext&) override {
        if (reopening_ != member_->group())
            member_ = std::make_unique<ThrottleGroupMember>(reopening_);
        reopening_.reset();
    }
    void reopen_abort(ReopenContext&) override { reopening_.reset(); }

    void drain_begin() override { member_->drain_begin(); }
    void drain_end() override { member_->drain_end(); }

private:
    std::unique_ptr<ThrottleGroupMember> member_;
    std::shared_ptr<ThrottleGroup> reopening_;
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_throttle(OpenContext& context) {
    auto options = context.parse<ThrottleOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto group = find_group(context.graph(), options->throttle_group);
    if (!group)
        co_return std::unexpected(std::move(group.error()));
    auto file = co_await co_open_filtered(context, options->file);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    co_return std::make_unique<ThrottleDriver>(context, **file, std::move(*group));
}

}  // namespace

const DriverType kThrottleDriver{
    .name = "throttle",
    .options = []() -> const OptionSchema& { return ThrottleOptions::options(); },
    .co_open = co_open_throttle,
    .is_filter = true,
};

}  // namespace ashlar
