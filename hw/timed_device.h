// TimedDevice: a device with something to do at points of the machine's time. The harts' thread calls it.
#pragma once

#include <cstdint>

namespace ashlar {

class TimedDevice {
public:
    static constexpr uint64_t kNever = UINT64_MAX;

    virtual ~TimedDevice() = default;
    // When check_time() is next to be called, in ticks of the MachineClock; asked again after each access by the guest.
    virtual uint64_t next_deadline() = 0;
    virtual void check_time() = 0;
};

}  // namespace ashlar
