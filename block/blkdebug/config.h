// Blkdebug's configuration file: rules in the format of QEMU's -readconfig, one section for each.
//
//     # comment
//     [inject-error]
//     event = "read_aio"
//     errno = "28"
#pragma once

#include <string_view>

#include "util/error.h"
#include "util/json_fwd.h"

namespace ashlar {

// To {"inject-error": [{"event": "read_aio", "errno": "28"}], "set-state": []}, leniently typed. Errors begin with the
// number of the line: "3: ...".
Result<Json> parse_blkdebug_config(std::string_view text);

}  // namespace ashlar
