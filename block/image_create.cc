#include "block/image_create.h"

#include "block/block_graph.h"
#include "block/open_backend.h"
#include "util/report.h"

#include <cerrno>

namespace ashlar {

namespace {

constexpr ChildPerm kAlone{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::ConsistentRead};

}  // namespace

const OptionSet<ExistingFileOptions>& ExistingFileOptions::options() {
    static const auto set =
        OptionSet<ExistingFileOptions>("protocol")
            .optional("preallocation", &ExistingFileOptions::preallocation, "Preallocation mode (allowed values: off)");
    return set;
}

Task<Result<void>> CreateContext::co_open() {
    // Under a raw node, because that takes any protocol's names.
    Json options{{"driver", "raw"}, {"file", {{"filename", filename_}}}};
    auto backend =
        co_await co_open_backend(graph_, std::move(options), Typing::Lenient, {.discard = Discard::Unmap}, kAlone);
    if (!backend)
        co_return std::unexpected(std::move(backend.error()));
    file_ = std::move(*backend);
    file_->set_allow_write_beyond_end(true);
    co_return {};
}

Task<Result<void>> CreateContext::co_open_existing(const DriverType& protocol, int64_t size) {
    auto options = parse<ExistingFileOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (options->preallocation != PreallocMode::Off)
        co_return fail("Unsupported preallocation mode '{}'", enum_name(options->preallocation));
    if (auto opened = co_await co_open(); !opened)
        co_return std::unexpected(
            std::move(opened.error())
                .prefixed(fmt::format("Protocol driver '{}' does not support image creation, and opening the image "
                                      "failed",
                                      protocol.name)));
    const int64_t length = file_->length();
    if (length < size) {
        auto resized = co_await file_->co_truncate(size, false, PreallocMode::Off);
        if (!resized)
            co_return std::unexpected(
                std::move(resized.error())
                    .prefixed(fmt::format("The existing file has {} bytes, {} are needed", length, size)));
    }
    // What it was must not be found any more.
    const int64_t head = std::min<int64_t>(std::max<int64_t>(length, 0), kSectorSize);
    if (head > 0)
        if (int ret = co_await file_->co_pwrite_zeroes(0, head, RequestFlags::MayUnmap); ret < 0)
            co_return fail_errno(-ret, "Failed to clear the new image's first sector");
    co_return {};
}

Task<Result<BlockBackend*>> CreateContext::co_create_file(int64_t size) {
    auto protocol = graph_.registry().protocol_for(filename_);
    if (!protocol)
        co_return std::unexpected(std::move(protocol.error()));
    Result<void> done;
    if ((*protocol)->co_create) {
        options_["size"] = size;
        done = co_await (*protocol)->co_create(*this);
        if (done) {
            made_by_ = *protocol;
            done = co_await co_open();
        }
    } else {
        done = co_await co_open_existing(**protocol, size);
    }
    if (!done)
        co_return std::unexpected(std::move(done.error()));
    co_return file_.get();
}

Task<Result<void>> co_create_image(BlockGraph& graph, const DriverType& type, std::string filename, Json options) {
    CreateContext context(graph, std::move(filename), std::move(options));
    Result<void> done;
    if (type.co_create && !type.is_protocol) {
        done = co_await type.co_create(context);
    } else if (type.is_protocol) {
        struct SizeOption {
            Size size;
            static const OptionSet<SizeOption>& options() {
                static const auto set =
                    OptionSet<SizeOption>("protocol").required("size", &SizeOption::size, "Virtual disk size");
                return set;
            }
        };
        auto named = graph.registry().protocol_for(context.filename());
        auto size = context.take<SizeOption>();
        if (!named)
            done = std::unexpected(std::move(named.error()));
        else if (*named != &type)
            done =
                fail("'{}' is a name for protocol '{}', not for '{}'", context.filename(), (*named)->name, type.name);
        else if (!size)
            done = std::unexpected(std::move(size.error()));
        else if (size->size > static_cast<uint64_t>(kMaxLength))
            done = fail("The image size is too large for file format '{}'", type.name);
        else if (auto made = co_await context.co_create_file(static_cast<int64_t>(size->size.bytes)); !made)
            done = std::unexpected(std::move(made.error()));
    } else {
        co_return fail("Format driver '{}' does not support image creation", type.name);
    }

    if (context.file_)
        if (auto closed = co_await context.file_->co_detach(); !closed && done)
            done = std::move(closed);
    if (!done && context.made_by_ && context.made_by_->remove)
        if (auto removed = context.made_by_->remove(context.filename()); !removed)
            error_report(removed.error());
    co_return done;
}

Task<Result<MeasuredSize>> co_measure_image(BlockGraph& graph, BlockBackend* source, const DriverType& type,
                                            Json options) {
    if (!type.co_measure)
        co_return fail("Block driver '{}' does not support size measurement", type.name);
    if (source) {
        const int64_t length = source->length();
        if (length < 0)
            co_return fail_errno(static_cast<int>(-length), "Unable to get virtual image size");
        options["size"] = length;
    }
    MeasureContext context(source, std::move(options));
    auto size = co_await type.co_measure(context);
    // The file's own options are fine, and change nothing.
    const DriverType* file = graph.registry().find("file");
    for (const auto& [key, value] : context.options_.items())
        if (size && !(file && file->create_options().find(key)))
            co_return fail("Invalid parameter '{}'", key);
    co_return size;
}

}  // namespace ashlar
