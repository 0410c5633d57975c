#include "hw/loader.h"

#include "util/unique_fd.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace ashlar {

namespace {

template <class T>
std::optional<T> object_at(std::span<const uint8_t> file, uint64_t offset) {
    if (offset > file.size() || file.size() - offset < sizeof(T))
        return std::nullopt;
    T object;
    memcpy(&object, file.data() + offset, sizeof object);
    return object;
}

Result<Elf64_Ehdr> elf_header(std::span<const uint8_t> file) {
    const auto header = object_at<Elf64_Ehdr>(file, 0);
    if (!header)
        return fail("ELF header: the file ends within it");
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB)
        return fail("not a 64-bit little-endian ELF file");
    if (header->e_machine != EM_RISCV)
        return fail("e_machine: {}: an ELF file for another processor than RISC-V ({})", header->e_machine, EM_RISCV);
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return fail("e_type: {}: not an executable", header->e_type);
    if (header->e_phentsize != sizeof(Elf64_Phdr))
        return fail("e_phentsize: {}: not {}", header->e_phentsize, sizeof(Elf64_Phdr));
    if (header->e_phnum == PN_XNUM)
        return fail("e_phnum: too many program headers");
    return *header;
}

Result<MemorySegment> load_segment(std::span<const uint8_t> file, const Elf64_Phdr& segment, MemoryBounds memory) {
    if (segment.p_offset > file.size() || segment.p_filesz > file.size() - segment.p_offset)
        return fail("segment at {:#x}: its {} bytes at {} of the file go beyond the file's end", segment.p_paddr,
                    segment.p_filesz, segment.p_offset);
    if (segment.p_filesz > segment.p_memsz)
        return fail("segment at {:#x}: p_filesz: {} is more than p_memsz, {}", segment.p_paddr, segment.p_filesz,
                    segment.p_memsz);
    if (!memory.contains(segment.p_paddr, segment.p_memsz))
        return fail("segment at {:#x}: its {} bytes are not within the memory of {:#x} to {:#x}", segment.p_paddr,
                    segment.p_memsz, memory.base, memory.base + memory.bytes);
    const auto bytes = file.subspan(segment.p_offset, segment.p_filesz);
    return MemorySegment{segment.p_paddr, {bytes.begin(), bytes.end()}, segment.p_memsz};
}

}  // namespace

bool is_elf(std::span<const uint8_t> file) {
    return file.size() >= SELFMAG && memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

Result<LoadedImage> load_elf(std::span<const uint8_t> file, MemoryBounds memory) {
    auto header = elf_header(file);
    if (!header)
        return std::unexpected(std::move(header.error()));
    LoadedImage image{.entry = header->e_entry};
    uint64_t bytes = 0;
    for (unsigned i = 0; i < header->e_phnum; ++i) {
        // Without overflow: object_at() refuses an offset that is more than the file has.
        if (header->e_phoff > file.size())
            return fail("e_phoff: {}: beyond the file's end", header->e_phoff);
        const auto segment = object_at<Elf64_Phdr>(file, header->e_phoff + i * sizeof(Elf64_Phdr));
        if (!segment)
            return fail("program header {}: the file ends within it", i);
        if (segment->p_type != PT_LOAD || segment->p_memsz == 0)
            continue;
        auto loaded = load_segment(file, *segment, memory);
        if (!loaded)
            return std::unexpected(std::move(loaded.error()));
        // Segments may name the same bytes of the file: what is kept of them has the memory as its limit.
        bytes += loaded->bytes.size();
        if (bytes > memory.bytes)
            return fail("its segments are more than the memory of {} bytes", memory.bytes);
        image.end = std::max(image.end, loaded->address + loaded->size);
        image.segments.push_back(std::move(*loaded));
    }
    if (image.segments.empty())
        return fail("has nothing to load");
    // A kernel is linked to run at virtual addresses; it is entered at the physical one.
    for (unsigned i = 0; i < header->e_phnum; ++i) {
        const auto segment = object_at<Elf64_Phdr>(file, header->e_phoff + i * sizeof(Elf64_Phdr));
        if (segment && segment->p_type == PT_LOAD && segment->p_paddr != segment->p_vaddr &&
            header->e_entry - segment->p_vaddr < segment->p_memsz) {
            image.entry = header->e_entry - segment->p_vaddr + segment->p_paddr;
            break;
        }
    }
    return image;
}

Result<LoadedImage> load_binary(std::vector<uint8_t> file, uint64_t address, MemoryBounds memory) {
    const uint64_t size = file.size();
    if (!memory.contains(address, size))
        return fail("its {} bytes do not fit at {:#x} into the memory of {:#x} to {:#x}", size, address, memory.base,
                    memory.base + memory.bytes);
    LoadedImage image{.entry = address, .end = address + size};
    image.segments.push_back({address, std::move(file), size});
    return image;
}

std::optional<ImageHeader> image_header(std::span<const uint8_t> file) {
    constexpr size_t kTextOffset = 8, kImageSize = 16, kMagic2 = 56, kBytes = 64;
    constexpr char kMagic[] = {'R', 'S', 'C', 5};
    if (file.size() < kBytes || memcmp(file.data() + kMagic2, kMagic, sizeof kMagic) != 0)
        return std::nullopt;
    return ImageHeader{*object_at<uint64_t>(file, kTextOffset), *object_at<uint64_t>(file, kImageSize)};
}

Result<std::vector<uint8_t>> read_file(const std::string& path, uint64_t limit) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info;
    if (!fd || fstat(fd.get(), &info) < 0)
        return fail_errno(errno, "{}", path);
    if (S_ISDIR(info.st_mode))
        return fail_errno(EISDIR, "{}", path);
    if (S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) > limit)
        return fail("{}: {} bytes do not fit into the memory", path, info.st_size);
    std::vector<uint8_t> bytes;
    for (;;) {
        constexpr size_t kStep = 4 << 20;
        const size_t have = bytes.size();
        bytes.resize(have + kStep);
        const ssize_t got = read(fd.get(), bytes.data() + have, bytes.size() - have);
        if (got < 0)
            return fail_errno(errno, "{}", path);
        bytes.resize(have + static_cast<size_t>(got));
        if (bytes.size() > limit)
            return fail("{}: more than {} bytes do not fit into the memory", path, limit);
        if (got == 0)
            return bytes;
    }
}

}  // namespace ashlar
