// Making a file for an image. Its options are those of `qemu-img create -f raw -o help FILE`.
#pragma once

#include "block/image_create.h"

namespace ashlar {

struct FileCreateOptions {
    Size size;
    PreallocMode preallocation = PreallocMode::Off;
    bool nocow = false;
    Size extent_size_hint{1 << 20};

    static const OptionSet<FileCreateOptions>& options();
};

// With the image's lock: a file that somebody else uses is left as it is.
[[nodiscard]] Task<Result<void>> co_create_file(CreateContext& context);
Result<void> remove_file(const std::string& filename);

}  // namespace ashlar
