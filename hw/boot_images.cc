#include "hw/boot_images.h"

#include "hw/machine.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace ashlar {

namespace {

constexpr uint64_t kMiB = 1 << 20, kAlignment = 2 * kMiB;

// Debian's package opensbi, and what QEMU's packages make of it.
constexpr const char* kDefaultFirmware[] = {
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
};

uint64_t align_up(uint64_t address) {
    return (address + kAlignment - 1) & ~(kAlignment - 1);
}

Result<std::string> find_firmware(const std::string& bios) {
    if (bios != "default")
        return bios;
    for (const char* path : kDefaultFirmware)
        if (access(path, R_OK) == 0)
            return path;
    return std::unexpected(Error{fmt::format("no firmware: {} is not there", kDefaultFirmware[0])}.with_hint(
        "Install Debian's package opensbi, name a file with -bios, or use -bios none."));
}

Result<LoadedImage> read_firmware(const std::string& bios, MemoryBounds memory) {
    auto path = find_firmware(bios);
    if (!path)
        return std::unexpected(std::move(path.error()));
    auto file = read_file(*path, memory.bytes);
    if (!file)
        return std::unexpected(
            std::move(file.error()).prefixed(fmt::format("Unable to load the RISC-V firmware \"{}\"", *path)));
    auto image = is_elf(*file) ? load_elf(*file, memory) : load_binary(std::move(*file), memory.base, memory);
    if (!image)
        return std::unexpected(std::move(image.error()).prefixed(*path));
    return image;
}

Result<LoadedImage> read_kernel(const std::string& path, uint64_t address, MemoryBounds memory) {
    auto file = read_file(path, memory.bytes);
    if (!file)
        return std::unexpected(std::move(file.error()).prefixed("could not load kernel"));
    Result<LoadedImage> image;
    if (is_elf(*file)) {
        image = load_elf(*file, memory);
    } else if (auto header = image_header(*file)) {
        // In memory it is longer than the file, by what the kernel clears itself.
        const uint64_t size = std::max<uint64_t>(header->image_size, file->size());
        if (header->text_offset > memory.bytes || !memory.contains(memory.base + header->text_offset, size))
            return fail("{}: image_size: {} bytes do not fit {} bytes behind the beginning of a memory of {}", path,
                        size, header->text_offset, memory.bytes);
        address = std::max(address, memory.base + header->text_offset);
        image = load_binary(std::move(*file), address, memory);
        if (image && memory.contains(address, size))
            image->end = address + size;
    } else {
        image = load_binary(std::move(*file), address, memory);
    }
    if (!image)
        return std::unexpected(std::move(image.error()).prefixed(path));
    return image;
}

Result<LoadedImage> read_initrd(const std::string& path, const LoadedImage& kernel, MemoryBounds memory) {
    auto file = read_file(path, memory.bytes);
    if (!file)
        return std::unexpected(std::move(file.error()).prefixed("could not load ramdisk"));
    // Far enough behind a kernel that unpacks itself.
    const uint64_t address =
        std::max(kernel.entry + std::min(memory.bytes / 2, 128 * kMiB), (kernel.end + 4095) & ~uint64_t{4095});
    auto image = load_binary(std::move(*file), address, memory);
    if (!image)
        return std::unexpected(
            std::move(image.error()).prefixed(path).with_hint("Give the machine more memory with -m."));
    return image;
}

bool overlap(const MemorySegment& a, const MemorySegment& b) {
    return a.address < b.address + b.size && b.address < a.address + a.size;
}

Result<void> check_apart(const LoadedImage& a, const std::string& a_name, const LoadedImage& b,
                         const std::string& b_name) {
    for (const MemorySegment& one : a.segments)
        for (const MemorySegment& other : b.segments)
            if (overlap(one, other))
                return fail("{} at {:#x} to {:#x} and {} at {:#x} to {:#x} overlap in the memory", a_name, one.address,
                            one.address + one.size, b_name, other.address, other.address + other.size);
    return {};
}

void put(GuestRam& ram, const LoadedImage& image) {
    for (const MemorySegment& segment : image.segments) {
        uint8_t* memory = ram.at(segment.address, segment.size);  // it was checked that it fits
        std::ranges::copy(segment.bytes, memory);  // there may be none: a segment of zeroes only
        memset(memory + segment.bytes.size(), 0, segment.size - segment.bytes.size());
    }
}

}  // namespace

Result<BootImages> BootImages::read(const MachineSpec& spec, MemoryBounds memory) {
    BootImages images;
    images.start = memory.base;
    images.firmware.end = memory.base;
    if (spec.bios != "none") {
        auto firmware = read_firmware(spec.bios, memory);
        if (!firmware)
            return std::unexpected(std::move(firmware.error()));
        images.firmware = std::move(*firmware);
    }
    if (!spec.kernel.empty()) {
        auto kernel = read_kernel(spec.kernel, align_up(images.firmware.end), memory);
        if (!kernel)
            return std::unexpected(std::move(kernel.error()));
        images.kernel = std::move(*kernel);
        if (spec.bios == "none")
            images.start = images.kernel.entry;
    }
    if (!spec.initrd.empty()) {
        auto initrd = read_initrd(spec.initrd, images.kernel, memory);
        if (!initrd)
            return std::unexpected(std::move(initrd.error()));
        images.initrd = std::move(*initrd);
    }
    if (auto apart = check_apart(images.firmware, "the firmware", images.kernel, spec.kernel); !apart)
        return std::unexpected(std::move(apart.error()));
    return images;
}

Result<uint64_t> BootImages::place_device_tree(size_t bytes, MemoryBounds memory) {
    constexpr uint64_t kBelow = uint64_t{3} << 30;
    const uint64_t end = std::min(memory.base + memory.bytes, kBelow);
    const uint64_t address = (end - bytes) & ~(kAlignment - 1);
    if (end < memory.base + bytes || address < memory.base)
        return fail("no room for the device tree in a memory of {} bytes", memory.bytes);
    return address;
}

Result<void> BootImages::load(GuestRam& ram, std::span<const uint8_t> device_tree) const {
    const MemoryBounds memory{ram.base(), ram.bytes()};
    auto address = place_device_tree(device_tree.size(), memory);
    if (!address)
        return std::unexpected(std::move(address.error()));
    auto tree = load_binary({device_tree.begin(), device_tree.end()}, *address, memory);
    if (!tree)
        return std::unexpected(std::move(tree.error()).prefixed("device tree"));
    for (const auto& [image, name] :
         {std::pair(&firmware, "the firmware"), {&kernel, "the kernel"}, {&initrd, "the initrd"}})
        if (auto apart = check_apart(*tree, "the device tree", *image, name); !apart)
            return std::unexpected(std::move(apart.error()).with_hint("Give the machine more memory with -m."));
    for (const LoadedImage* image : {&firmware, &kernel, &initrd, &std::as_const(*tree)})
        put(ram, *image);
    return {};
}

std::vector<uint8_t> BootImages::reset_rom(uint64_t device_tree) const {
    // The data follow the code: at 24: where to go, 32: the tree, 40: OpenSBI's struct fw_dynamic_info.
    constexpr uint32_t kCode[] = {
        0x00000297,  // auipc t0, 0
        0x02828613,  // addi  a2, t0, 40
        0xf1402573,  // csrr  a0, mhartid
        0x0202b583,  // ld    a1, 32(t0)
        0x0182b283,  // ld    t0, 24(t0)
        0x00028067,  // jr    t0
    };
    constexpr uint64_t kMagic = 0x4942534f, kVersion = 2, kSupervisor = 1;
    const uint64_t next = kernel.segments.empty() ? 0 : kernel.entry;
    const uint64_t data[] = {start, device_tree, kMagic,          kVersion,
                             next,  kSupervisor, 0 /* options */, 0 /* boot hart */};
    std::vector<uint8_t> rom(sizeof kCode + sizeof data);
    memcpy(rom.data(), kCode, sizeof kCode);
    memcpy(rom.data() + sizeof kCode, data, sizeof data);
    return rom;
}

}  // namespace ashlar
