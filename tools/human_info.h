// The human-readable form of a tree of information, as `info` of ashlar-img and ashlar-io prints what is specific to a
// format:
//
//     compat: 1.1
//     bitmaps:
//         [0]:
//             flags:
#pragma once

#include "util/json_fwd.h"

#include <string>

namespace ashlar {

// One line for each scalar, each level of members four spaces deeper than `indentation` spaces. '-' in names is ' '.
std::string human_info(const Json& value, unsigned indentation);

}  // namespace ashlar
