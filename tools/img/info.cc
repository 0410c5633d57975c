// ashlar-img info: what an image is, and with --backing-chain what is below it.
#include "tools/img/chain.h"
#include "tools/img/command.h"
#include "tools/img/print_info.h"
#include "util/json.h"

#include <fmt/core.h>

#include <set>

namespace ashlar::img {

namespace {

class Info final : public Command {
public:
    Info() {
        image_.flags.read_only = true;
        image_.flags.inspect = true;
    }

    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        add_output_option(line, output_);
        line.add_flag(0, "backing-chain", "its backing file as well, and that one's, and so on", chain_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        return take_one_name(std::move(arguments), filename_);
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        std::vector<ImageInfo> found;
        std::set<std::string> seen;
        std::string name = filename_;
        ImageArguments arguments = image_;
        for (;;) {
            if (!seen.insert(name).second)
                co_return fail("Backing file '{}' creates an infinite loop.", name);
            auto info = co_await co_info(graph, name, arguments);
            if (!info)
                co_return std::unexpected(std::move(info.error()));
            found.push_back(std::move(*info));
            const ImageInfo& last = found.back();
            if (!chain_ || !last.full_backing_filename)
                break;
            name = *last.full_backing_filename;
            arguments.image_opts = false;
            arguments.format = last.backing_filename_format.value_or("");
        }
        print(found);
        co_return 0;
    }

private:
    void print(const std::vector<ImageInfo>& found) const {
        if (output_ == OutputFormat::Json) {
            Json list = Json::array();
            for (const ImageInfo& info : found)
                list.push_back(ImageInfo::options().to_json(info));
            fmt::print("{}\n", dump_json_pretty(chain_ ? list : list[0]));
            return;
        }
        for (size_t i = 0; i < found.size(); ++i)
            fmt::print("{}{}", i ? "\n" : "", image_text(found[i]));
    }

    ImageArguments image_;
    OutputFormat output_ = OutputFormat::Human;
    bool chain_ = false;
    std::string filename_;
};

}  // namespace

const CommandType kInfo{
    .name = "info",
    .syntax = "[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename",
    .make = make_command<Info>,
};

}  // namespace ashlar::img
