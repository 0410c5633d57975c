// The filter driver `blkdebug`: makes requests fail or stop by rules, and shows limits that the image does not have, so
// that what is above can be tested (docs/blkdebug.md).
#pragma once

#include <string>

#include "block/blkdebug/options.h"
#include "block/block_driver.h"

namespace ashlar {

class BlkdebugDriver final : public BlockDriver {
public:
    BlkdebugDriver(const OpenContext& context, BlkdebugOptions options);

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override;
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override;
    Task<int> co_flush() override;
    Task<BlockStatus> co_block_status(bool want_zero, int64_t offset, int64_t bytes) override;
    int64_t length() const override { return primary_child()->length(); }

    BlockLimits limits() const override;
    SupportedFlags supported_flags() const override;
    ChildPerm child_perm(const BdrvChild& child, ChildPerm cumulative) const override;
    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override;
    void drain_begin() override { rules_.drain_begin(); }
    void drain_end() override { rules_.drain_end(); }
    std::string filename() const override;

    bool wants_debug_events() const override { return true; }
    Task<void> co_debug_event(BlkdebugEvent event) override { return rules_.co_event(event); }

    Blkdebug& rules() { return rules_; }

private:
    const BlkdebugOptions options_;
    Blkdebug rules_;
};

extern const DriverType kBlkdebugDriver;

}  // namespace ashlar
