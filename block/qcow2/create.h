// Making qcow2 images: the options; a plan of what to write, as a pure function; and doing it.
#pragma once

#include "block/image_create.h"
#include "block/qcow2/format.h"
#include "block/qcow2/header.h"
#include "util/enum_names.h"
#include "util/options.h"

#include <optional>
#include <string>
#include <vector>

namespace ashlar::qcow2 {

enum class Version : uint8_t { V2 = 2, V3 = 3 };
constexpr auto enum_names(Version) {
    return std::to_array<EnumName<Version>>({
        {Version::V2, "v2"},
        {Version::V2, "0.10"},
        {Version::V3, "v3"},
        {Version::V3, "1.1"},
    });
}
constexpr auto enum_names(Compression) {
    return std::to_array<EnumName<Compression>>({{Compression::Zlib, "zlib"}, {Compression::Zstd, "zstd"}});
}

struct CreateOptions {
    Size size;
    Version version = Version::V3;
    std::optional<std::string> backing_file;
    std::optional<std::string> backing_format;
    Size cluster_size{65536};
    bool lazy_refcounts = false;
    unsigned refcount_bits = 16;
    std::optional<std::string> data_file;
    bool data_file_raw = false;
    bool extended_l2 = false;
    Compression compression = Compression::Zlib;
    PreallocMode preallocation = PreallocMode::Off;
    // Known, and refused.
    std::optional<bool> encryption;
    std::optional<std::string> encrypt_format;
    std::optional<std::string> encrypt_secret;

    // With the names of `qemu-img create -o`.
    static const OptionSet<CreateOptions>& options();
};

// Something to write into the new file, which need not be empty.
struct ImagePart {
    uint64_t offset;
    std::vector<std::byte> data;
    uint64_t zeroes = 0;  // behind the data
};

struct ImagePlan {
    Header header;
    std::vector<ImagePart> parts;  // the one with the header is the last: until it is written there is no image
    uint64_t file_length;
};

Result<ImagePlan> plan_image(const CreateOptions& options);

void complete(CreateOptions& options);

// Out of a CreateContext's or a MeasureContext's, with what follows from others.
template <class Context>
Result<CreateOptions> take_create_options(Context& context) {
    auto options = context.template take<CreateOptions>();
    if (options)
        complete(*options);
    return options;
}

// As DriverType::co_create and co_measure.
[[nodiscard]] Task<Result<void>> co_create(CreateContext& context);
[[nodiscard]] Task<Result<MeasuredSize>> co_measure(MeasureContext& context);

}  // namespace ashlar::qcow2
