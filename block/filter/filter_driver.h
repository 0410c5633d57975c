// FilterDriver: a driver that shows its primary child as it is. What a filter does not override goes straight through.
#pragma once

#include "block/block_driver.h"
#include "block/block_node.h"

namespace ashlar {

class FilterDriver : public BlockDriver {
public:
    FilterDriver(const OpenContext& context, BdrvChild& file) : BlockDriver(context), file_(file) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        return file_.co_preadv(offset, bytes, iov, flags);
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        return file_.co_pwritev(offset, bytes, iov, flags);
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        return file_.co_pwrite_zeroes(offset, bytes, flags);
    }
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override { return file_.co_pdiscard(offset, bytes); }
    Task<int> co_flush() override { return file_.co_flush(); }
    int64_t length() const override { return file_.length(); }

    SupportedFlags supported_flags() const override {
        using enum RequestFlags;
        const SupportedFlags below = file_.node().driver().supported_flags();
        return {.read = Prefetch,
                .write = (Fua | Compressed | Unchanged) & below.write,
                .write_zeroes = (Fua & below.write_zeroes) | MayUnmap | NoFallback};
    }
    // Opened by its file's name alone, an image would lose the filter.
    std::string filename() const override { return ""; }

protected:
    BdrvChild& file() const { return file_; }

private:
    BdrvChild& file_;
};

// The `file` of a filter that has no other options.
struct FilterOptions {
    BlockdevRef file;

    static const OptionSet<FilterOptions>& options();
};

[[nodiscard]] inline Task<Result<BdrvChild*>> co_open_filtered(OpenContext& context, BlockdevRef file) {
    return context.co_open_child("file", std::move(file), ChildRole::Filtered | ChildRole::Primary);
}

}  // namespace ashlar
