// The argument of -cpu: the kind of hart, and what it is to have.
#pragma once

#include "hw/hart_features.h"
#include "util/error.h"

#include <string>
#include <string_view>

namespace ashlar {

// "rv64[,PROPERTY=on|off...]" with QEMU's properties. One that cannot be had, or cannot be left out, is an error.
Result<HartFeatures> parse_cpu_option(std::string_view text);
std::string cpu_help();

}  // namespace ashlar
