#include "block/block_graph.h"
#include "block/image_create.h"
#include "block/open_backend.h"
#include "block/qcow2/create.h"
#include "block/qcow2/driver.h"
#include "util/json.h"
#include "util/report.h"

#include <cerrno>

namespace ashlar::qcow2 {

namespace {

Task<Result<void>> co_write_plan(BlockBackend& file, const ImagePlan& plan) {
    for (const ImagePart& part : plan.parts) {
        auto offset = static_cast<int64_t>(part.offset), bytes = static_cast<int64_t>(part.data.size());
        iovec element{const_cast<std::byte*>(part.data.data()), part.data.size()};
        int ret = bytes > 0 ? co_await file.co_pwritev(offset, bytes, IoVector(element)) : 0;
        if (ret == 0 && part.zeroes > 0)
            ret = co_await file.co_pwrite_zeroes(offset + bytes, static_cast<int64_t>(part.zeroes),
                                                 RequestFlags::MayUnmap);
        if (ret < 0)
            co_return fail_errno(-ret, "Could not write the image's metadata");
    }
    if (int ret = co_await file.co_flush(); ret < 0)
        co_return fail_errno(-ret, "Could not write the image's metadata");
    co_return {};
}

// The image is there: opened like any other, but that its backing file is not needed.
Task<Result<void>> co_fill(CreateContext& context, BlockBackend& file, const CreateOptions& options) {
    if (auto shared = file.set_perms({BlockPerm::None, BlockPerm::All}); !shared)
        co_return shared;
    Json image{{"driver", "qcow2"}, {"file", file.root()->node_name()}, {"backing", nullptr}};
    constexpr ChildPerm kPerms{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize,
                               BlockPerm::ConsistentRead};
    auto backend = co_await co_open_backend(context.graph(), std::move(image), Typing::Strict, {}, kPerms);
    if (!backend)
        co_return std::unexpected(std::move(backend.error()));
    auto& driver = static_cast<Qcow2Driver&>((*backend)->root()->driver());
    auto filled = co_await driver.co_preallocate(options.preallocation);
    auto closed = co_await (*backend)->co_detach();
    co_return filled ? closed : filled;
}

Task<Result<void>> co_make(CreateContext& context, const CreateOptions& options, const ImagePlan& plan) {
    auto file = co_await context.co_create_file(static_cast<int64_t>(plan.file_length));
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    if (auto written = co_await co_write_plan(**file, plan); !written)
        co_return written;
    if (options.preallocation == PreallocMode::Off && !options.data_file)
        co_return {};
    co_return co_await co_fill(context, **file, options);
}

// The data file's length is given to it when the image is filled. A name without protocol is a file's.
Task<Result<void>> co_make_with_data_file(CreateContext& context, const CreateOptions& options, const ImagePlan& plan) {
    auto protocol = context.graph().registry().protocol_for(*options.data_file);
    if (!protocol)
        co_return std::unexpected(std::move(protocol.error()));
    const DriverType& type = **protocol;
    if (auto made = co_await co_create_image(context.graph(), type, *options.data_file, Json{{"size", 0}}); !made)
        co_return made;
    auto done = co_await co_make(context, options, plan);
    if (!done && type.co_create && type.remove)
        if (auto removed = type.remove(*options.data_file); !removed)
            error_report(removed.error());
    co_return done;
}

}  // namespace

void complete(CreateOptions& options) {
    options.size.bytes = (options.size.bytes + kSectorSize - 1) / kSectorSize * kSectorSize;
    // Whoever reads the data file as it is must find everything that is written to it in its place.
    if (options.data_file_raw && options.preallocation == PreallocMode::Off)
        options.preallocation = PreallocMode::Metadata;
}

Task<Result<void>> co_create(CreateContext& context) {
    auto options = take_create_options(context);
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto plan = plan_image(*options);
    if (!plan)
        co_return std::unexpected(std::move(plan.error()));
    if (options->data_file)
        co_return co_await co_make_with_data_file(context, *options, *plan);
    co_return co_await co_make(context, *options, *plan);
}

}  // namespace ashlar::qcow2
