// Target: the image that a command makes and fills. If it does not come to a good end, there is none: a file that was
// made is removed, so that nobody takes a part for the whole.
#pragma once

#include "block/block_backend.h"
#include "tools/image_arguments.h"
#include "util/error.h"
#include "util/json.h"

#include <memory>
#include <string>

namespace ashlar::img {

class Target {
public:
    explicit Target(BlockGraph& graph) : graph_(graph) {}
    Target(const Target&) = delete;

    [[nodiscard]] Task<Result<void>> co_create(const DriverType& format, std::string filename, Json options);
    // Opens it for writing, or one that exists already.
    [[nodiscard]] Task<Result<void>> co_open(std::string filename, ImageArguments arguments);
    BlockBackend& image() { return *image_; }
    // From where on it reads as zeroes; INT64_MAX: not known. `bytes`: what is going to be written, which may be
    // zeroed if that costs nothing.
    [[nodiscard]] Task<int64_t> co_zero_from(int64_t bytes);
    // Closes it. Unless `so_far` and the closing are fine, what was made is removed.
    [[nodiscard]] Task<Result<void>> co_finish(Result<void> so_far);

private:
    BlockGraph& graph_;
    std::unique_ptr<BlockBackend> image_;
    std::string made_;  // the file, if one was made
    const DriverType* made_protocol_ = nullptr;
};

}  // namespace ashlar::img
