#include "tools/img/target.h"

#include "block/block_graph.h"
#include "block/image_create.h"
#include "tools/img/arguments.h"
#include "util/report.h"

#include <algorithm>

namespace ashlar::img {

Task<Result<void>> Target::co_create(const DriverType& format, std::string filename, Json options) {
    auto protocol = graph_.registry().protocol_for(filename);
    if (!protocol)
        co_return std::unexpected(std::move(protocol.error()));
    auto made = co_await co_create_image(graph_, format, filename, std::move(options));
    if (made && (*protocol)->co_create) {
        made_ = std::move(filename);
        made_protocol_ = *protocol;
    }
    co_return made;
}

Task<Result<void>> Target::co_open(std::string filename, ImageArguments arguments) {
    auto opened = co_await img::co_open(graph_, std::move(filename), std::move(arguments));
    if (!opened)
        co_return std::unexpected(std::move(opened.error()));
    image_ = std::move(*opened);
    co_return {};
}

Task<int64_t> Target::co_zero_from(int64_t bytes) {
    BdrvChild* backing = image_->root()->cow_child();
    if (made_protocol_)
        co_return backing ? backing->length() : 0;
    int64_t zero = 0;
    while (zero < bytes) {
        const BlockStatus status = co_await image_->co_block_status_above(zero, bytes - zero);
        if (status.ret < 0 || !status.has(BlockStatus::Zero))
            break;
        zero += status.bytes;
    }
    if (zero >= bytes)
        co_return 0;
    if (backing || !image_->supports_fast_zero())
        co_return INT64_MAX;
    constexpr int64_t kStep = int64_t{1} << 30;
    constexpr RequestFlags kCheap = RequestFlags::MayUnmap | RequestFlags::NoFallback;
    for (int64_t at = 0; at < bytes; at += kStep)
        if (co_await image_->co_pwrite_zeroes(at, std::min(kStep, bytes - at), kCheap) < 0)
            co_return INT64_MAX;
    co_return 0;
}

Task<Result<void>> Target::co_finish(Result<void> so_far) {
    if (image_) {
        auto closed = co_await image_->co_detach();
        if (so_far)
            so_far = std::move(closed);
        image_.reset();
    }
    if (!so_far && made_protocol_ && made_protocol_->remove)
        if (auto removed = made_protocol_->remove(made_); !removed)
            error_report(removed.error());
    co_return so_far;
}

}  // namespace ashlar::img
