#include "block/qcow2/amend.h"

#include "block/qcow2/check.h"
#include "block/qcow2/downgrade.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/json.h"
#include "util/progress.h"

#include <bit>
#include <cerrno>

namespace ashlar::qcow2 {

const OptionSet<AmendOptions>& AmendOptions::options() {
    static const auto set =
        OptionSet<AmendOptions>("qcow2")
            .optional("backing_file", &AmendOptions::backing_file, "File name of a base image")
            .optional("backing_fmt", &AmendOptions::backing_format, "Image format of the base image")
            .optional("compat", &AmendOptions::version, "Compatibility level (v2 [0.10] or v3 [1.1])")
            .optional("data_file", &AmendOptions::data_file, "File name of an external data file")
            .optional("data_file_raw", &AmendOptions::data_file_raw,
                      "The external data file must stay valid as a raw image")
            .optional("lazy_refcounts", &AmendOptions::lazy_refcounts, "Postpone refcount updates")
            .optional("refcount_bits", &AmendOptions::refcount_bits, "Width of a reference count entry in bits")
            .optional("size", &AmendOptions::size, "Virtual disk size");
    return set;
}

namespace {

// With everything else in place.
Task<Result<void>> co_replace_header(Image& image, Header header) {
    if (auto bytes = write_header(header); !bytes)
        co_return std::unexpected(std::move(bytes.error()).prefixed(image.name));
    auto guard = co_await image.writing->allocation_lock.co_lock();
    if (int ret = co_await image.co_write_header(std::move(header)); ret < 0)
        co_return fail_errno(-ret, "{}: could not write the header", image.name);
    co_return {};
}

Result<AmendOptions> parse(const Json& given) {
    for (const auto& [key, value] : given.items())
        if (CreateOptions::options().find(key) && !AmendOptions::options().find(key))
            return std::unexpected(Error{.message = fmt::format("Invalid parameter '{}'", key),
                                         .hint = "This option is only supported for image creation"});
    return AmendOptions::options().parse(given, Typing::Lenient);
}

// Everything that can be refused, before anything is changed.
Result<void> check_wishes(const Header& header, const AmendOptions& wish) {
    uint32_t version = wish.version ? static_cast<uint32_t>(*wish.version) : header.version;
    if ((wish.backing_file && *wish.backing_file != header.backing_file) ||
        (wish.backing_format && *wish.backing_format != header.backing_format.value_or("")))
        return std::unexpected(
            Error{.message = "Cannot amend the backing file", .hint = "You can use 'qemu-img rebase' instead."});
    if (wish.data_file && !header.has(kDataFile))
        return fail("data-file can only be set for images that use an external data file");
    if (wish.data_file && wish.data_file->size() > kMaxDataFileName)
        return fail("data_file: {} bytes exceed the limit of {}", wish.data_file->size(), kMaxDataFileName);
    if (wish.data_file_raw.value_or(false) && !header.data_file_raw())
        return fail("data-file-raw cannot be set on existing images");
    if (wish.lazy_refcounts.value_or(false) && version < 3)
        return fail("Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)");
    unsigned bits = wish.refcount_bits.value_or(header.geometry().refcount_bits());
    if (!std::has_single_bit(bits) || bits > 64)
        return fail("Refcount width must be a power of two and may not exceed 64 bits");
    if (wish.refcount_bits && bits != 16 && version < 3)
        return fail(
            "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)");
    if (wish.size && *wish.size % kSectorSize != 0)
        return fail("The new size must be a multiple of {}", kSectorSize);
    if (version < 3 && header.version >= 3) {
        if (header.has(kDataFile))
            return fail("Cannot downgrade an image with a data file");
        if (uint64_t features = header.incompatible & ~uint64_t{kDirty})
            return fail("Cannot downgrade an image with incompatible features {:#x} set", features);
        if (bits != 16)
            return fail("compat=0.10 requires refcount_bits=16");
        if (header.bitmaps)
            return fail("Cannot downgrade an image with persistent dirty bitmaps");
    }
    return {};
}

// All counts anew, of another width.
Task<Result<void>> co_change_width(Image& image, unsigned bits) {
    int64_t length = image.file.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get image size");
    const CheckReporter quiet = [](const std::string&) {};
    Check check(image, CheckFix::None, quiet, static_cast<uint64_t>(length));
    int ret = co_await co_count_references(check);
    if (ret == 0)
        ret = co_await co_compare_refcounts(check, CheckFix::None);
    if (ret < 0)
        co_return fail_errno(-ret, "{}: could not count the references", image.name);
    if (check.result.corruptions > 0 || check.result.errors > 0)
        co_return std::unexpected(Error{.message = fmt::format("{}: the image is damaged", image.name),
                                        .hint = "Repair it with 'qemu-img check -r all' first."});
    Header header = image.header;
    header.refcount_order = static_cast<uint32_t>(std::countr_zero(bits));
    if (auto too_large = check.references.first_above(header.geometry().max_refcount()))
        co_return fail("Cannot decrease refcount entry width to {} bits: Cluster at offset {:#x} has a refcount of {}",
                       bits, *too_large << header.cluster_bits, check.references.get(*too_large));
    const uint64_t first = check.references.end();
    forget_refcount_structures(check);
    auto rebuilt = co_await co_rebuild_refcounts(image, check.references, first, std::move(header));
    auto reloaded = co_await image.writing->co_reload();
    co_return rebuilt ? std::move(reloaded) : std::move(rebuilt);
}

Task<Result<void>> co_change_features(Image& image, const AmendOptions& wish) {
    Header header = image.header;
    if (wish.version == Version::V3 && header.version < 3) {
        header.version = 3;
        header.feature_names.assign(known_feature_names().begin(), known_feature_names().end());
        if (!write_header(header))
            header.feature_names.clear();  // only where there is room for them
    }
    if (wish.data_file)
        header.data_file = wish.data_file;
    if (wish.data_file_raw == false)
        header.autoclear &= ~uint64_t{kDataFileRaw};
    WriteState& state = *image.writing;
    if (wish.lazy_refcounts) {
        header.compatible =
            *wish.lazy_refcounts ? header.compatible | kLazyRefcounts : header.compatible & ~uint64_t{kLazyRefcounts};
        header.incompatible &= ~uint64_t{kDirty};  // everything has been written
    }
    if (auto replaced = co_await co_replace_header(image, std::move(header)); !replaced)
        co_return replaced;
    if (wish.lazy_refcounts)
        state.lazy_refcounts = *wish.lazy_refcounts;
    co_return co_await state.co_reload();
}

Task<Result<void>> co_downgrade(Image& image, BdrvChild* backing, Progress& progress) {
    WriteState& state = *image.writing;
    if (auto expanded = co_await co_expand_zero_clusters(image, backing, progress); !expanded)
        co_return expanded;
    if (int ret = co_await state.co_settle(); ret < 0)
        co_return fail_errno(-ret, "{}: could not write what has been changed", image.name);
    Header header = image.header;
    header.version = 2;
    header.incompatible = header.compatible = header.autoclear = 0;
    header.feature_names.clear();
    header.unknown_fields.clear();
    if (auto replaced = co_await co_replace_header(image, std::move(header)); !replaced)
        co_return replaced;
    state.lazy_refcounts = false;
    co_return co_await state.co_reload();
}

}  // namespace

Task<Result<void>> co_amend(Image& image, BdrvChild* backing, Json given, Resize resize, Progress& progress) {
    auto wish = parse(given);
    if (!wish)
        co_return std::unexpected(std::move(wish.error()));
    if (auto possible = check_wishes(image.header, *wish); !possible)
        co_return possible;
    const bool downgrades = wish->version == Version::V2 && image.header.version >= 3;
    if (downgrades)
        if (auto possible = check_snapshots_for_downgrade(image); !possible)
            co_return possible;
    if (int ret = co_await image.writing->co_settle(); ret < 0)
        co_return fail_errno(-ret, "{}: could not write what has been changed", image.name);
    if (auto changed = co_await co_change_features(image, *wish); !changed)
        co_return changed;
    if (wish->refcount_bits && *wish->refcount_bits != image.geometry().refcount_bits())
        if (auto changed = co_await co_change_width(image, *wish->refcount_bits); !changed)
            co_return changed;
    if (wish->size)
        if (auto resized = co_await resize(static_cast<int64_t>(wish->size->bytes)); !resized)
            co_return resized;
    if (downgrades)
        co_return co_await co_downgrade(image, backing, progress);
    co_return {};
}

Task<Result<void>> co_change_backing_name(Image& image, BackingName name) {
    if (name.filename.size() > kMaxBackingName)
        co_return fail_errno(EINVAL, "backing_file: a name of {} bytes exceeds the limit of {}", name.filename.size(),
                             kMaxBackingName);
    if (name.format.size() > kMaxBackingFormat)
        co_return fail_errno(EINVAL, "backing_fmt: {} bytes exceed the limit of {}", name.format.size(),
                             kMaxBackingFormat);
    Header header = image.header;
    if (!name.filename.empty() && image.data_file_raw)
        co_return fail_errno(EINVAL, "Cannot set a backing file when data-file-raw is set");
    header.backing_file = std::move(name.filename);
    header.backing_format.reset();
    if (!header.backing_file.empty() && !name.format.empty())
        header.backing_format = std::move(name.format);
    co_return co_await co_replace_header(image, std::move(header));
}

Task<Result<void>> co_make_empty(Image& image) {
    int ret = co_await co_forget(image, 0, image.length.get());
    if (ret == 0)
        ret = co_await image.writing->co_settle();
    if (ret < 0)
        co_return fail_errno(-ret, "{}: could not empty the image", image.name);
    co_return {};
}

}  // namespace ashlar::qcow2
