// The filter driver `throttle`: its requests keep to the limits of a throttle group (docs/block.md, "Throttling").
#pragma once

#include <memory>
#include <string>

#include "block/block_driver.h"
#include "block/throttle_groups.h"

namespace ashlar {

struct ThrottleOptions {
    std::string throttle_group;
    BlockdevRef file;

    static const OptionSet<ThrottleOptions>& options();
};

class ThrottleDriver final : public BlockDriver {
public:
    ThrottleDriver(const OpenContext& context, std::shared_ptr<ThrottleGroup> group);

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override;
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override;
    int64_t length() const override { return primary_child()->length(); }
    SupportedFlags supported_flags() const override;

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override;
    void reopen_commit(ReopenContext& context) override;
    void reopen_abort(ReopenContext& context) override;

    void drain_begin() override { member_->drain_begin(); }
    void drain_end() override { member_->drain_end(); }

    // As the node with its options: a reopening of the file alone would lose the limits.
    std::string filename() const override { return ""; }

private:
    std::unique_ptr<ThrottleGroupMember> member_;
    std::shared_ptr<ThrottleGroup> reopening_;
};

extern const DriverType kThrottleDriver;

}  // namespace ashlar
