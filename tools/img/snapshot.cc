// ashlar-img snapshot: lists, makes, applies and deletes internal snapshots.
#include "block/image_format.h"
#include "tools/img/chain.h"
#include "tools/img/command.h"
#include "tools/img/print_info.h"
#include "util/report.h"

#include <fmt/core.h>

#include <cerrno>
#include <ctime>

namespace ashlar::img {

namespace {

class Snapshot final : public Command {
public:
    void declare(CommandLine& line) override {
        add_image_options(line, image_, "U");
        add_quiet_option(line, quiet_);
        add_action(line, 'l', "", "list the snapshots (default)");
        add_action(line, 'c', "SNAPSHOT", "create it");
        add_action(line, 'a', "SNAPSHOT", "apply it: the disk is as it was then");
        add_action(line, 'd', "SNAPSHOT", "delete it");
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (auto taken = take_one_name(std::move(arguments), filename_); !taken)
            return taken;
        image_.flags.read_only = action_ == 0 || action_ == 'l';
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        // What is listed and made does not need the backing file; what writes to the disk might.
        auto opened = image_.flags.read_only ? co_await co_open_alone(graph, filename_, image_)
                                             : co_await co_open(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        BlockDriverState& node = *(*opened)->root();
        Result<int> status = 0;
        if (action_ == 'l')
            list(node);
        if (!image_.flags.read_only) {
            auto drained = co_await graph.co_drain(node);
            if (auto done = co_await co_change(node); !done)
                status = std::unexpected(std::move(done.error()));
        }
        co_return co_await co_close(std::move(*opened), std::move(status));
    }

private:
    void add_action(CommandLine& line, char letter, std::string argument, std::string help) {
        line.add(letter, "", std::move(argument), std::move(help),
                 [this, letter](std::string_view name) -> Result<void> {
                     if (action_)
                         return std::unexpected(usage_error("Cannot mix '-l', '-a', '-c', '-d'"));
                     action_ = letter;
                     snapshot_ = name;
                     return {};
                 });
    }

    void list(const BlockDriverState& node) const {
        if (auto snapshots = snapshot_infos(node); !snapshots.empty())
            fmt::print("Snapshot list:\n{}", snapshots_text(snapshots));
    }

    Task<Result<void>> co_change(BlockDriverState& node) {
        ImageFormat* format = node.driver().image_format();
        if (action_ == 'c') {
            auto failed = [this](int code) {
                return fail("Could not create snapshot '{}': {} ({})", snapshot_, -code, std::strerror(code));
            };
            if (!format)
                co_return failed(ENOTSUP);
            timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            auto made = co_await format->co_create_snapshot({.name = snapshot_,
                                                             .date_seconds = now.tv_sec,
                                                             .date_nanoseconds = static_cast<uint32_t>(now.tv_nsec),
                                                             .icount = 0});
            if (!made && made.error().code)
                co_return failed(made.error().code);
            if (!made)
                co_return std::unexpected(
                    std::move(made.error()).prefixed(fmt::format("Could not create snapshot '{}'", snapshot_)));
            co_return {};
        }
        const bool apply = action_ == 'a';
        const std::vector<ImageSnapshot> all = format ? format->snapshots() : std::vector<ImageSnapshot>();
        const ImageSnapshot* found = ImageFormat::find_snapshot(all, snapshot_);
        Result<void> done;
        if (apply && !format)
            done = fail("Block driver does not support snapshots");
        else if (!found)
            done = apply ? fail_errno(ENOENT, "Failed to load snapshot") : fail("snapshot not found");
        else
            done =
                apply ? co_await format->co_apply_snapshot(found->id) : co_await format->co_delete_snapshot(found->id);
        if (!done)
            co_return std::unexpected(
                std::move(done.error())
                    .prefixed(fmt::format("Could not {} snapshot '{}'", apply ? "apply" : "delete", snapshot_)));
        co_return {};
    }

    ImageArguments image_;
    bool quiet_ = false;
    char action_ = 0;
    std::string snapshot_, filename_;
};

}  // namespace

const CommandType kSnapshot{
    .name = "snapshot",
    .syntax = "[--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename",
    .make = make_command<Snapshot>,
};

}  // namespace ashlar::img
