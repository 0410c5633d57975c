// ashlar-img rebase: changes the backing file of an image; what the image shows stays the same, unless -u says that the
// old and the new one are alike anyway.
#include "block/file_name.h"
#include "block/image_format.h"
#include "block/io_vector.h"
#include "tools/img/chain.h"
#include "tools/img/command.h"
#include "tools/img/progress_display.h"
#include "util/buffer_pool.h"
#include "util/task_scope.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

namespace ashlar::img {

namespace {

constexpr int64_t kChunk = 2 << 20;

class Rebase final : public Command {
public:
    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        line.add('b', "backing", "FILE", "the new backing file; empty: none", [this](std::string_view name) {
            backing_ = name;
            return Result<void>();
        });
        line.add_text('F', "backing-format", "FMT", "its format", backing_format_);
        line.add_flag('u', "backing-unsafe", "change the name only", unsafe_);
        line.add_flag('c', "compress", "compress what is written to the image", compress_);
        add_cache_option(line, 't', image_, "cache mode of the image");
        add_cache_option(line, 'T', others_, "cache mode of the backing files", "Invalid source cache option: {}");
        line.add_flag('p', "progress", "show progress", show_progress_);
        add_quiet_option(line, quiet_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (auto taken = take_one_name(std::move(arguments), filename_); !taken)
            return taken;
        if (!unsafe_ && !backing_)
            return std::unexpected(usage_error("Must specify backing file (-b) or use unsafe mode (-u)"));
        if (quiet_)
            show_progress_ = false;
        others_.flags.read_only = true;
        others_.flags.force_share = image_.flags.force_share;
        others_.format = backing_format_;
        image_.flags.force_share = false;  // it is written
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        ProgressDisplay display(show_progress_);
        if (!backing_format_.empty() && !graph.registry().find(backing_format_))
            co_return fail("Invalid format name: '{}'", backing_format_);
        auto opened =
            unsafe_ ? co_await co_open_alone(graph, filename_, image_) : co_await co_open(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        BlockBackend& image = **opened;
        display.start();
        Result<void> done;
        if (!unsafe_)
            done = co_await co_keep_contents(graph, image, display.progress());
        if (done)
            done = co_await co_change_name(graph, *image.root());
        Result<int> status = 0;
        if (!done)
            status = std::unexpected(std::move(done.error()));
        status = co_await co_close(std::move(*opened), std::move(status));
        co_await display.co_finish(status.has_value());
        co_return status;
    }

private:
    // What an image shows at a place where a shorter one has nothing: zeroes.
    struct View {
        BlockBackend* image = nullptr;  // null: no backing file
        int64_t length = 0;
    };

    Task<Result<void>> co_change_name(BlockGraph& graph, BlockDriverState& node) {
        auto failed = [this](Error error) {
            return std::unexpected(std::move(error).prefixed(
                fmt::format("Could not change the backing file to '{}'", backing_.value_or(""))));
        };
        ImageFormat* format = node.driver().image_format();
        if (!format || !node.type().supports_backing)
            co_return failed(Error{.message = std::strerror(ENOTSUP)});
        if (backing_ && !backing_->empty() && backing_format_.empty())
            co_return failed(Error{.message = "backing format must be specified", .hint = "Specify it with -F."});
        auto drained = co_await graph.co_drain(node);
        auto changed = co_await format->co_change_backing_name({backing_.value_or(""), backing_format_});
        if (!changed)
            co_return failed(std::move(changed.error()));
        co_return {};
    }

    // Writes into the image whatever the new backing file shows otherwise than the old one.
    Task<Result<void>> co_keep_contents(BlockGraph& graph, BlockBackend& image, Progress& progress) {
        if (!image.root()->type().supports_backing)
            co_return {};  // as co_change_name() is going to say
        std::unique_ptr<BlockBackend> fresh;
        std::string full;
        if (!backing_->empty()) {
            full = combine_names(name_of(*image.root()), *backing_);
            auto opened = co_await co_open(graph, full, others_);
            if (!opened) {
                std::string_view message = opened.error().message;
                const std::string prefix = fmt::format("Could not open '{}': ", full);
                if (message.starts_with(prefix))
                    message.remove_prefix(prefix.size());
                co_return fail("Could not open new backing file '{}': {}", *backing_, message);
            }
            fresh = std::move(*opened);
        }
        std::optional<BlockBackend> old;
        Result<void> done;
        if (BdrvChild* child = image.root()->cow_child()) {
            old.emplace(graph, "", ChildPerm{BlockPerm::ConsistentRead, BlockPerm::All});
            done = co_await old->co_attach(child->node());
        }
        if (done) {
            View before{old ? &*old : nullptr, old ? old->length() : 0};
            View after{fresh.get(), fresh ? fresh->length() : 0};
            if (image.length() < 0 || before.length < 0 || after.length < 0)
                done = fail_errno(EIO, "Could not get the sizes of the images");
            else
                done = co_await co_copy_differences(image, before, after, shared_depth(*image.root(), full), progress);
        }
        if (done)
            if (int ret = co_await image.co_flush(); ret < 0)
                done = fail_errno(-ret, "Could not flush the image");
        if (old && old->root())
            if (auto closed = co_await old->co_detach(); !closed && done)
                done = std::move(closed);
        if (fresh)
            if (auto closed = co_await fresh->co_detach(); !closed && done)
                done = std::move(closed);
        co_return done;
    }

    // Which of the old backing files, counted from 1, is the new one; 0: none of them.
    static unsigned shared_depth(const BlockDriverState& image, const std::string& full) {
        unsigned depth = 0;
        for (BdrvChild* child = image.cow_child(); child; child = child->node().cow_child()) {
            ++depth;
            if (name_of(child->node()) == full)
                return depth;
        }
        return 0;
    }

    Task<Result<void>> co_copy_differences(BlockBackend& image, View before, View after, unsigned shared,
                                           Progress& progress) {
        const int64_t length = image.length();
        const int64_t cluster = std::max<int64_t>(image.root()->driver().cluster_size(), kSectorSize);
        const int64_t chunk = std::max(kChunk, cluster);
        if (compress_ && !has(image.root()->driver().supported_flags().write, RequestFlags::Compressed))
            co_return fail("Compression not supported for this file format");
        Buffer old_data(static_cast<size_t>(chunk)), new_data(static_cast<size_t>(chunk));
        progress.add_work(static_cast<uint64_t>(length));
        for (int64_t at = 0; at < length;) {
            const BlockStatus own = co_await image.co_block_status_above(at, length - at);
            if (own.ret < 0 || own.bytes <= 0)
                co_return fail_errno(own.ret < 0 ? -own.ret : EIO, "error while reading image metadata");
            int64_t n = own.bytes;
            if (own.depth != 1) {
                // What is written is whole clusters, where only a part of one may differ.
                auto compared = co_await co_compare(before, after, shared, at, n, chunk, old_data, new_data);
                if (!compared)
                    co_return std::unexpected(std::move(compared.error()));
                n = compared->bytes;
                if (compared->differs)
                    if (int ret = co_await co_write(image, at, n, cluster, old_data, new_data); ret < 0)
                        co_return fail_errno(-ret, "Error while writing to COW image");
            }
            at += n;
            progress.add_done(static_cast<uint64_t>(n));
        }
        co_return {};
    }

    struct Compared {
        int64_t bytes;
        bool differs;  // then both buffers have the data
    };

    Task<Result<Compared>> co_compare(View before, View after, unsigned shared, int64_t at, int64_t bytes,
                                      int64_t chunk, const Buffer& old_data, const Buffer& new_data) {
        bool old_zero = true, new_zero = true;
        if (before.image && at < before.length) {
            const BlockStatus status =
                co_await before.image->co_block_status_above(at, std::min(bytes, before.length - at));
            if (status.ret < 0)
                co_return fail_errno(-status.ret, "error while reading image metadata");
            bytes = status.bytes;
            old_zero = status.has(BlockStatus::Zero);
            if (shared > 0 && status.depth >= shared)
                co_return Compared{bytes, false};  // it comes from the new backing file already
        }
        if (after.image && at < after.length) {
            const BlockStatus status =
                co_await after.image->co_block_status_above(at, std::min(bytes, after.length - at));
            if (status.ret < 0)
                co_return fail_errno(-status.ret, "error while reading image metadata");
            bytes = status.bytes;
            new_zero = status.has(BlockStatus::Zero);
        }
        if (old_zero && new_zero)
            co_return Compared{bytes, false};
        bytes = std::min(bytes, chunk - at % chunk);
        int old_ret = 0, new_ret = 0;
        TaskScope reads;
        reads.spawn(co_read(before, at, bytes, old_zero, old_data, old_ret));
        reads.spawn(co_read(after, at, bytes, new_zero, new_data, new_ret));
        co_await reads.join();
        if (old_ret < 0)
            co_return fail_errno(-old_ret, "error while reading from old backing file");
        if (new_ret < 0)
            co_return fail_errno(-new_ret, "error while reading from new backing file");
        co_return Compared{bytes, memcmp(old_data.data(), new_data.data(), static_cast<size_t>(bytes)) != 0};
    }

    static Task<void> co_read(View view, int64_t at, int64_t bytes, bool zero, const Buffer& data, int& ret) {
        const int64_t there = zero || !view.image ? 0 : std::clamp<int64_t>(view.length - at, 0, bytes);
        if (there > 0) {
            iovec element{data.data(), static_cast<size_t>(there)};
            ret = co_await view.image->co_preadv(at, there, IoVector(element));
        }
        std::fill(data.data() + there, data.data() + bytes, std::byte{0});
    }

    // The clusters in which something differs, as they were. The clusters that a range has only a part of are filled up
    // by the image itself, from its old backing file; but compressed ones must be whole.
    Task<int> co_write(BlockBackend& image, int64_t at, int64_t bytes, int64_t cluster, const Buffer& old_data,
                       const Buffer& new_data) {
        for (int64_t done = 0; done < bytes;) {
            const int64_t end = std::min(bytes, ((at + done) / cluster + 1) * cluster - at);
            const std::byte* data = old_data.data() + done;
            const auto size = static_cast<size_t>(end - done);
            int ret = 0;
            if (memcmp(data, new_data.data() + done, size) != 0) {
                iovec element{const_cast<std::byte*>(data), size};
                const bool whole = (at + done) % cluster == 0 && (end - done == cluster || at + end == image.length());
                const RequestFlags flags = compress_ && whole ? RequestFlags::Compressed : RequestFlags::None;
                if (iov_is_zero(IoVector(element)))
                    ret = co_await image.co_pwrite_zeroes(at + done, end - done);
                else
                    ret = co_await image.co_pwritev(at + done, end - done, IoVector(element), flags);
            }
            if (ret < 0)
                co_return ret;
            done = end;
        }
        co_return 0;
    }

    ImageArguments image_, others_;
    std::optional<std::string> backing_;
    std::string backing_format_, filename_;
    bool unsafe_ = false, compress_ = false, show_progress_ = false, quiet_ = false;
};

}  // namespace

const CommandType kRebase{
    .name = "rebase",
    .syntax =
        "[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] [-c] -b "
        "backing_file [-F backing_fmt] filename",
    .make = make_command<Rebase>,
};

}  // namespace ashlar::img
