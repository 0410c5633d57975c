// Changing the image itself: what its header says, and everything that must be otherwise for that. In the main context,
// with no request in the node, which is writable. A crash leaves the image as it was before or as it is afterwards, but
// for leaked clusters, or at a step between two of the changes that were asked for.
#pragma once

#include "block/image_format.h"
#include "block/qcow2/create.h"
#include "block/qcow2/image.h"

#include <functional>
#include <optional>

namespace ashlar::qcow2 {

struct AmendOptions {
    std::optional<Version> version;
    std::optional<std::string> backing_file;
    std::optional<std::string> backing_format;
    std::optional<std::string> data_file;
    std::optional<bool> data_file_raw;
    std::optional<bool> lazy_refcounts;
    std::optional<unsigned> refcount_bits;
    std::optional<Size> size;

    // With the names of `qemu-img amend -o`.
    static const OptionSet<AmendOptions>& options();
};

// All but the size, which is `resize`'s to change, when it is time for that. `backing` may be null.
using Resize = std::function<Task<Result<void>>(int64_t size)>;
[[nodiscard]] Task<Result<void>> co_amend(Image& image, BdrvChild* backing, Json given, Resize resize,
                                          Progress& progress);

[[nodiscard]] Task<Result<void>> co_change_backing_name(Image& image, BackingName name);

// All of the disk is the backing file's again.
[[nodiscard]] Task<Result<void>> co_make_empty(Image& image);

}  // namespace ashlar::qcow2
