#include "block/image_format.h"

#include "util/json.h"

#include <algorithm>
#include <cerrno>

namespace ashlar {

namespace {

std::unexpected<Error> not_supported(std::string_view what) {
    return std::unexpected(
        Error{.message = fmt::format("This image format does not support {}", what), .code = ENOTSUP});
}

}  // namespace

Task<Result<ImageCheck>> ImageFormat::co_check(CheckFix, CheckReporter) {
    co_return not_supported("checks");
}

Task<Result<void>> ImageFormat::co_change_backing_name(BackingName) {
    co_return not_supported("backing files");
}

Task<Result<void>> ImageFormat::co_make_empty() {
    co_return not_supported("being emptied");
}

Task<Result<void>> ImageFormat::co_amend(Json, bool, Progress&) {
    co_return not_supported("option amendment");
}

Task<Result<void>> ImageFormat::co_create_snapshot(ImageSnapshot) {
    co_return not_supported("internal snapshots");
}

Task<Result<void>> ImageFormat::co_apply_snapshot(std::string) {
    co_return not_supported("internal snapshots");
}

Task<Result<void>> ImageFormat::co_delete_snapshot(std::string) {
    co_return not_supported("internal snapshots");
}

Task<Result<void>> ImageFormat::co_show_snapshot(std::string) {
    co_return not_supported("internal snapshots");
}

Result<void> ImageFormat::can_store_bitmap(const std::string&, uint32_t) const {
    return not_supported("dirty bitmaps");
}

Task<Result<void>> ImageFormat::co_remove_bitmap(std::string) {
    co_return not_supported("dirty bitmaps");
}

Task<int> ImageFormat::co_write_vm_state(int64_t, std::span<const std::byte>) {
    co_return -ENOTSUP;
}

Task<int> ImageFormat::co_read_vm_state(int64_t, std::span<std::byte>) {
    co_return -ENOTSUP;
}

const ImageSnapshot* ImageFormat::find_snapshot(std::span<const ImageSnapshot> snapshots,
                                                const std::string& name_or_id) {
    for (auto member : {&ImageSnapshot::name, &ImageSnapshot::id})
        if (auto found = std::ranges::find(snapshots, name_or_id, member); found != snapshots.end())
            return &*found;
    return nullptr;
}

}  // namespace ashlar
