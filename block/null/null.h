// The null drivers: a disk that forgets what is written to it, for tests and benchmarks. null-co finishes requests at
// once, null-aio in a later turn of the loop; both after `latency-ns` if that is given.
#pragma once

#include "block/block_driver.h"

namespace ashlar {

extern const DriverType kNullCoDriver;
extern const DriverType kNullAioDriver;

}  // namespace ashlar
