// The filters, each of which is one small file. What they do is in docs/filters.md.
#pragma once

#include "block/block_driver.h"

namespace ashlar {

extern const DriverType kBlklogwritesDriver;
extern const DriverType kBlkverifyDriver;
extern const DriverType kCompressDriver;
extern const DriverType kCopyOnReadDriver;
extern const DriverType kPreallocateDriver;
extern const DriverType kSnapshotAccessDriver;
extern const DriverType kThrottleDriver;

}  // namespace ashlar
