#include "block/temporary_overlay.h"

#include "block/image_create.h"
#include "util/json.h"
#include "util/report.h"
#include "util/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace ashlar {

namespace {

// Makes an empty file and returns its name.
Result<std::string> make_temporary_file() {
    const char* folder = getenv("TMPDIR");
    std::string name = std::string(folder && *folder ? folder : "/var/tmp") + "/ashlar-XXXXXX";
    UniqueFd file(mkostemp(name.data(), O_CLOEXEC));
    if (!file)
        return fail_errno(errno, "Could not create temporary file '{}'", name);
    return name;
}

Task<Result<BlockDriverState*>> co_open_overlay(BlockGraph& graph, BlockDriverState& base, std::string filename,
                                                NodeFlags flags) {
    auto format = graph.registry().get("qcow2");
    if (!format)
        co_return std::unexpected(std::move(format.error()));
    const int64_t length = base.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get the size of '{}'", base.filename());
    auto made = co_await co_create_image(graph, **format, filename, {{"size", length}});
    if (!made)
        co_return std::unexpected(std::move(made.error()).prefixed("Could not create temporary overlay"));
    flags.no_flush = true;  // nobody will ever read it after a crash
    Json file = {{"driver", "file"}, {"filename", filename}};
    Json options = {{"driver", "qcow2"}, {"file", std::move(file)}, {"backing", base.node_name()}};
    co_return co_await graph.co_open(std::move(options), Typing::Strict, flags);
}

}  // namespace

Task<Result<BlockDriverState*>> co_open_temporary_overlay(BlockGraph& graph, BlockDriverState& base, NodeFlags flags) {
    Result<BlockDriverState*> opened = nullptr;
    auto filename = make_temporary_file();
    if (filename) {
        opened = co_await co_open_overlay(graph, base, *filename, flags);
        unlink(filename->c_str());
    } else {
        opened = std::unexpected(std::move(filename.error()));
    }
    auto released = co_await graph.co_unref(base);
    if (!released)
        error_report(released.error());
    co_return opened;
}

}  // namespace ashlar
