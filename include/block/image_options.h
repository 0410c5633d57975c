// What a command line says of an image, as options for BlockGraph::co_open().
#pragma once

#include "block/block_driver.h"
#include "util/error.h"
#include "util/json_fwd.h"

#include <string>

namespace ashlar {

// `filename` with everything that it may be (a path, PROTOCOL:..., json:{...}); `format` empty: probed, or as the json:
// name says; `file_options`: an object of options for the file itself, such as `aio`.
Result<Json> image_options(const DriverRegistry& drivers, std::string filename, std::string format,
                           const Json& file_options);

// "Supported formats: file qcow2 raw ...".
std::string formats_help(const DriverRegistry& drivers);

}  // namespace ashlar
