#include "block/blkdebug/driver.h"
#include "block/block_driver.h"
#include "block/file/file_driver.h"
#include "block/nbd/nbd.h"
#include "block/null/null.h"
#include "block/qcow2.h"
#include "block/raw/raw.h"
#include "block/throttle.h"

namespace ashlar {

void register_all_drivers(DriverRegistry& registry) {
    registry.add(kBlkdebugDriver);
    registry.add(kFileDriver);
    registry.add(kHostDeviceDriver);
    registry.add(kNbdDriver);
    registry.add(kNullAioDriver);
    registry.add(kNullCoDriver);
    registry.add(kQcow2Driver);
    registry.add(kRawDriver);
    registry.add(kThrottleDriver);
}

}  // namespace ashlar
