// IoShell: what the commands of ashlar-io work on: the graph, the image that is open, the requests in flight.
//
// In the main context. Commands run one after the other; asynchronous requests go on meanwhile.
#pragma once

#include "block/block_graph.h"
#include "tools/image_arguments.h"
#include "util/co_event.h"
#include "util/error.h"
#include "util/task.h"

#include <memory>
#include <string>
#include <string_view>

namespace ashlar {

class Blkdebug;

class IoShell {
public:
    IoShell(AioContext& context, const DriverRegistry& drivers) : graph_(context, drivers) {}

    BlockGraph& graph() { return graph_; }
    bool misalign = false;  // -m

    // --- the image ---
    bool has_image() const { return image_ != nullptr; }
    BlockBackend& image() const { return *image_; }
    // `filename` may be empty when `options`, given in addition, say it all. Fails when one is open.
    [[nodiscard]] Task<Result<void>> co_open(std::string filename, ImageArguments arguments, Json options);
    [[nodiscard]] Task<Result<void>> co_close();  // waits for what is in flight
    BlockDriverState& image_node() const;         // the image itself, below the filter of -C
    Blkdebug* blkdebug() const;                   // of the image, or null

    // --- commands ---
    [[nodiscard]] Task<bool> co_run(std::string line);  // false: has failed, and said so
    void quit() { quit_ = true; }
    bool has_quit() const { return quit_; }

    // --- requests in flight ---
    void request_begins() { ++in_flight_; }
    void request_ends() {
        if (--in_flight_ == 0)
            idle_.pulse();
    }
    [[nodiscard]] Task<void> co_wait_until_idle();

    // Until a request is suspended under this tag.
    [[nodiscard]] Task<void> co_wait_suspended(std::string tag);

private:
    Result<void> take_perms(BlockPerm wanted);

    BlockGraph graph_;
    std::unique_ptr<BlockBackend> image_;
    bool copy_on_read_ = false;  // its root is the filter of -C
    unsigned in_flight_ = 0;
    CoEvent idle_;
    CoEvent suspended_;  // pulsed when blkdebug has suspended a request
    bool quit_ = false;
};

}  // namespace ashlar
