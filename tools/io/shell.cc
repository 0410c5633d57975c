#include "tools/io/shell.h"

#include "block/blkdebug.h"
#include "tools/io/command.h"
#include "util/json.h"
#include "util/report.h"

#include <fmt/core.h>

namespace ashlar {

Task<Result<void>> IoShell::co_open(std::string filename, ImageArguments arguments, Json options) {
    if (image_)
        co_return fail("file open already, try 'help close'");
    std::string what = filename.empty() || arguments.image_opts ? "can't open" : "can't open device " + filename;
    const bool writeback = is_writeback(arguments.cache), copy_on_read = arguments.copy_on_read;
    auto node = co_await co_open_node(graph_, std::move(filename), std::move(arguments), std::move(options));
    if (!node)
        co_return std::unexpected(std::move(node.error()).prefixed(what));
    // Others may do what they like, as with qemu-io.
    ChildPerm perms{BlockPerm::ConsistentRead, BlockPerm::All};
    if (!(*node)->is_read_only())
        perms.perm = perms.perm | BlockPerm::Write;
    auto image = std::make_unique<BlockBackend>(graph_, "", perms);
    image->set_write_cache(writeback);
    auto attached = co_await image->co_attach(**node);
    auto released = co_await graph_.co_unref(**node);
    if (!attached)
        co_return std::unexpected(std::move(attached.error()).prefixed(what));
    image_ = std::move(image);
    copy_on_read_ = copy_on_read;
    if (!released)
        co_return released;
    if (Blkdebug* rules = blkdebug())
        rules->set_listener([this](bool suspended, std::string_view tag) {
            fmt::print("blkdebug: {} request '{}'\n", suspended ? "Suspended" : "Resuming", tag);
            if (suspended)
                suspended_.pulse();
        });
    co_return Result<void>();
}

Task<Result<void>> IoShell::co_close() {
    if (!image_)
        co_return Result<void>();
    auto closed = co_await image_->co_detach();
    co_await co_wait_until_idle();
    image_.reset();
    co_return closed;
}

BlockDriverState& IoShell::image_node() const {
    BlockDriverState& root = *image_->root();
    return copy_on_read_ ? root.primary_child()->node() : root;
}

Blkdebug* IoShell::blkdebug() const {
    return find_blkdebug(*image_->root());
}

Task<void> IoShell::co_wait_until_idle() {
    while (in_flight_ > 0)
        co_await idle_.wait();
}

Task<void> IoShell::co_wait_suspended(std::string tag) {
    while (!blkdebug()->is_suspended(tag))
        co_await suspended_.wait();
}

Result<void> IoShell::take_perms(BlockPerm wanted) {
    ChildPerm perms = image_->perms();
    if (has(perms.perm, wanted))
        return {};
    perms.perm = perms.perm | wanted;
    return image_->set_perms(perms);
}

namespace {

bool check_count(const IoCommand& command, const IoArguments& arguments) {
    const int count = arguments.count(), min = command.min_arguments, max = command.max_arguments;
    if (count >= min && (max == kAnyNumber || count <= max))
        return true;
    std::string expected = max == kAnyNumber ? fmt::format("at least {}", min)
                           : min == max      ? fmt::format("{}", min)
                                             : fmt::format("between {} and {}", min, max);
    fmt::print(stderr, "bad argument count {} to {}, expected {} arguments\n", count, arguments.name(), expected);
    return false;
}

}  // namespace

Task<bool> IoShell::co_run(std::string line) {
    std::vector<std::string> words = split_io_line(line);
    if (words.empty())
        co_return true;
    const IoCommand* command = find_io_command(words[0]);
    if (!command) {
        fmt::print(stderr, "command \"{}\" not found\n", words[0]);
        co_return false;
    }
    if (command->needs_image && !has_image()) {
        fmt::print(stderr, "no file open, try 'help open'\n");
        co_return false;
    }
    IoArguments arguments(*command, std::move(words));
    if (!check_count(*command, arguments))
        co_return false;
    if (command->perms != BlockPerm::None) {
        if (auto taken = take_perms(command->perms); !taken) {
            error_report(taken.error());
            co_return false;
        }
    }
    co_return co_await command->run(*this, arguments);
}

}  // namespace ashlar
