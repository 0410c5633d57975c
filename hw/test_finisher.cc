#include "hw/test_finisher.h"

namespace ashlar {

uint64_t TestFinisher::read(uint64_t, unsigned) {
    return 0;
}

void TestFinisher::write(uint64_t offset, unsigned, uint64_t value) {
    if (offset != 0)
        return;
    switch (value & 0xffff) {
        case kPass:
            return actions_.finish(0);
        case kFail:
            return actions_.finish(static_cast<int>(value >> 16 & 0xffff));
        case kReset:
            return actions_.reset();
    }
}

}  // namespace ashlar
