// ashlar-img bitmap: makes, removes and changes the dirty bitmaps that are stored in an image.
#include "block/node_bitmaps.h"
#include "tools/img/arguments.h"
#include "tools/img/chain.h"
#include "tools/img/command.h"

#include <algorithm>

namespace ashlar::img {

namespace {

class Bitmap final : public Command {
public:
    void declare(CommandLine& line) override {
        add_image_options(line, image_, "f");
        add_action(line, Kind::Add, "add", "", "make the bitmap");
        add_action(line, Kind::Remove, "remove", "", "remove it");
        add_action(line, Kind::Clear, "clear", "", "nothing is dirty any more");
        add_action(line, Kind::Enable, "enable", "", "it records from now on");
        add_action(line, Kind::Disable, "disable", "", "it does not record any more");
        add_action(line, Kind::Merge, "merge", "SOURCE", "what is dirty in SOURCE is dirty in it as well");
        line.add_text('b', "source-file", "FILE", "the image that has the sources of --merge", source_name_);
        line.add_text('F', "source-format", "FMT", "its format", source_format_);
        line.add('g', "granularity", "SIZE", "of the bitmap that is made",
                 bytes_option("granularity", granularity_, 1, UINT32_MAX));
    }

    Result<void> take(std::vector<std::string> arguments) override {
        auto has = [this](Kind kind) { return std::ranges::find(actions_, kind, &Action::kind) != actions_.end(); };
        if (actions_.empty())
            return fail("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        if (arguments.size() != 2)
            return fail("Expecting filename and bitmap name");
        if (granularity_ && !has(Kind::Add))
            return fail("granularity only supported with --add");
        if (!source_format_.empty() && source_name_.empty())
            return fail("-F only supported with -b");
        if (!source_name_.empty() && !has(Kind::Merge))
            return fail("Merge bitmap source file only supported with --merge");
        filename_ = std::move(arguments[0]);
        bitmap_ = std::move(arguments[1]);
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        auto opened = co_await co_open(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        Result<int> status = 0;
        std::unique_ptr<BlockBackend> source;
        if (!source_name_.empty()) {
            ImageArguments arguments{.format = source_format_};
            arguments.flags.read_only = true;
            // Its backing files have no part in it; one of them may be the image that is changed.
            auto other = co_await co_open_alone(graph, source_name_, std::move(arguments));
            if (other)
                source = std::move(*other);
            else
                status = std::unexpected(std::move(other.error()));
        }
        BlockDriverState& node = *(*opened)->root();
        for (size_t i = 0; i < actions_.size() && status; ++i)
            if (auto done = co_await co_act(node, actions_[i], source ? source->root() : nullptr); !done)
                status = std::unexpected(
                    std::move(done.error())
                        .prefixed(fmt::format("Operation {} on bitmap {} failed", name_of(actions_[i].kind), bitmap_)));
        if (source)
            status = co_await co_close(std::move(source), std::move(status));
        co_return co_await co_close(std::move(*opened), std::move(status));
    }

private:
    enum class Kind : uint8_t { Add, Remove, Clear, Enable, Disable, Merge };
    struct Action {
        Kind kind;
        std::string source;
    };

    static std::string_view name_of(Kind kind) {
        constexpr std::string_view kNames[] = {"add", "remove", "clear", "enable", "disable", "merge"};
        return kNames[static_cast<size_t>(kind)];
    }

    void add_action(CommandLine& line, Kind kind, std::string name, std::string argument, std::string help) {
        line.add(0, std::move(name), std::move(argument), std::move(help), [this, kind](std::string_view source) {
            actions_.push_back({kind, std::string(source)});
            return Result<void>();
        });
    }

    Task<Result<void>> co_act(BlockDriverState& node, const Action& action, BlockDriverState* source) {
        switch (action.kind) {
            case Kind::Add: {
                NewBitmap bitmap{.name = bitmap_, .persistent = true};
                if (granularity_)
                    bitmap.granularity = static_cast<uint32_t>(granularity_);
                co_return co_await co_add_bitmap(node, std::move(bitmap));
            }
            case Kind::Remove:
                co_return co_await co_remove_bitmap(node, bitmap_);
            case Kind::Clear:
                co_return clear_bitmap(node, bitmap_);
            case Kind::Enable:
            case Kind::Disable:
                co_return enable_bitmap(node, bitmap_, action.kind == Kind::Enable);
            case Kind::Merge: {
                BitmapName name{.node = {}, .name = action.source};
                if (source)
                    name.node = source->node_name();
                co_return merge_bitmaps(node, bitmap_, {&name, 1});
            }
        }
        co_return {};
    }

    ImageArguments image_;
    std::vector<Action> actions_;
    std::string source_name_, source_format_, filename_, bitmap_;
    int64_t granularity_ = 0;
};

}  // namespace

const CommandType kBitmap{
    .name = "bitmap",
    .syntax =
        "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F source_fmt]] "
        "[-g granularity] [--object objectdef] [--image-opts | -f fmt] filename bitmap",
    .make = make_command<Bitmap>,
};

}  // namespace ashlar::img
