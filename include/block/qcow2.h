// The qcow2 format (docs/formats.md), for main() to register.
#pragma once

#include "block/block_driver.h"

namespace ashlar {

extern const DriverType kQcow2Driver;

}  // namespace ashlar
