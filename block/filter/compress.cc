// The filter `compress`: what is written is stored compressed, by the format below.
//
// Formats compress whole clusters; so those are the filter's blocks, and the generic path makes whole ones of smaller
// writes.
#include <algorithm>

#include "block/filter/filter_driver.h"
#include "block/filter/filters.h"
#include "block/io_vector.h"
#include "block/keep_options.h"

namespace ashlar {

namespace {

class CompressDriver final : public FilterDriver {
public:
    using FilterDriver::FilterDriver;

    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        // The last block may go past the end.
        const int64_t present = std::min(bytes, std::max<int64_t>(length() - offset, 0));
        if (present == bytes)
            co_return co_await file().co_pwritev(offset, bytes, iov, RequestFlags::Compressed);
        IovSlice slice(iov, 0, present);
        co_return co_await file().co_pwritev(offset, present, slice.get(), RequestFlags::Compressed);
    }

    BlockLimits limits() const override {
        const int64_t cluster = file().node().driver().cluster_size();
        return {.request_alignment = static_cast<uint32_t>(std::max<int64_t>(cluster, 1))};
    }
    SupportedFlags supported_flags() const override {
        SupportedFlags flags = FilterDriver::supported_flags();
        flags.write = RequestFlags::Compressed & flags.write;
        return flags;
    }
    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        if (auto can = check(context.new_child("file")); !can)
            co_return can;
        co_return co_await co_keep_options(context, FilterOptions{});
    }

    static Result<void> check(const BlockDriverState& below) {
        if (has(below.driver().supported_flags().write, RequestFlags::Compressed))
            return {};
        return fail("Compression is not supported for underlying format: {}", below.type().name);
    }
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_compress(OpenContext& context) {
    auto options = context.parse<FilterOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto file = co_await co_open_filtered(context, options->file);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    if (auto can = CompressDriver::check((*file)->node()); !can)
        co_return std::unexpected(std::move(can.error()));
    co_return std::make_unique<CompressDriver>(context, **file);
}

}  // namespace

const DriverType kCompressDriver{
    .name = "compress",
    .options = []() -> const OptionSchema& { return FilterOptions::options(); },
    .co_open = co_open_compress,
    .is_filter = true,
};

}  // namespace ashlar
