// Pmp: physical memory protection, 16 entries with a grain of 4 bytes (volume II, section 3.7).
#pragma once

#include "hw/cpu/privilege.h"

#include <array>
#include <cstdint>

namespace ashlar {

class Pmp {
public:
    static constexpr unsigned kEntries = 16;

    // Without entries everything is allowed.
    explicit Pmp(bool has_entries = true) : open_(!has_entries) {}

    // pmpcfg0 (`number` 0) and pmpcfg2 (2). Writing a locked entry does nothing.
    uint64_t config(unsigned number) const;
    void set_config(unsigned number, uint64_t value);
    uint64_t address(unsigned entry) const { return address_[entry]; }
    void set_address(unsigned entry, uint64_t value);

    bool allows(uint64_t address, uint64_t bytes, Access access, Privilege privilege) const;
    // Whether no entry begins or ends within the page: then what holds for one byte of it does for all.
    bool uniform(uint64_t page) const;

private:
    struct Range {
        uint64_t first = 1, last = 0;  // none if first > last
    };
    void update();

    bool open_;
    std::array<uint8_t, kEntries> config_{};
    std::array<uint64_t, kEntries> address_{};
    std::array<Range, kEntries> range_{};
};

}  // namespace ashlar
