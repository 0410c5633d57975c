#include "block/format_signatures.h"

#include <array>
#include <cstring>

namespace ashlar {

namespace {

using namespace std::string_view_literals;

struct Signature {
    size_t offset;
    std::string_view bytes;
    std::string_view format;
};

constexpr std::array kSignatures{
    Signature{0, "QFI\xfb"sv, "qcow2"},  // and qcow version 1, told from it by what follows
    Signature{0, "QED\0"sv, "qed"},
    Signature{0, "KDMV"sv, "vmdk"},
    Signature{0, "COWD"sv, "vmdk"},
    Signature{0, "# Disk DescriptorFile"sv, "vmdk"},
    Signature{64, "\x7f\x10\xda\xbe"sv, "vdi"},
    Signature{0, "vhdxfile"sv, "vhdx"},
    Signature{0, "conectix"sv, "vpc"},
    Signature{0, "LUKS\xba\xbe"sv, "luks"},
    Signature{0, "WithoutFreeSpace"sv, "parallels"},
    Signature{0, "WithouFreSpacExt"sv, "parallels"},
    Signature{0, "Bochs Virtual HD Image"sv, "bochs"},
    Signature{0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"sv, "cloop"},
};

}  // namespace

std::string_view format_of_header(std::span<const std::byte> head) {
    for (const Signature& s : kSignatures)
        if (head.size() >= s.offset + s.bytes.size() &&
            memcmp(head.data() + s.offset, s.bytes.data(), s.bytes.size()) == 0)
            return s.format == "qcow2" && head.size() >= 8 && head[7] == std::byte{1} ? "qcow" : s.format;
    return "";
}

}  // namespace ashlar
