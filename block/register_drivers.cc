#include "block/blkdebug/driver.h"
#include "block/block_driver.h"
#include "block/file/file_driver.h"
#include "block/filter/filters.h"
#include "block/nbd/nbd.h"
#include "block/null/null.h"
#include "block/qcow2.h"
#include "block/raw/raw.h"

namespace ashlar {

void register_all_drivers(DriverRegistry& registry) {
    registry.add(kBlkdebugDriver);
    registry.add(kBlklogwritesDriver);
    registry.add(kBlkverifyDriver);
    registry.add(kCompressDriver);
    registry.add(kCopyOnReadDriver);
    registry.add(kFileDriver);
    registry.add(kHostDeviceDriver);
    registry.add(kNbdDriver);
    registry.add(kNullAioDriver);
    registry.add(kNullCoDriver);
    registry.add(kQcow2Driver);
    registry.add(kPreallocateDriver);
    registry.add(kRawDriver);
    registry.add(kSnapshotAccessDriver);
    registry.add(kThrottleDriver);
}

}  // namespace ashlar
