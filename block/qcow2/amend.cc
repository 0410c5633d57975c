#include "block/qcow2/amend.h"

#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"

#include <cerrno>

namespace ashlar::qcow2 {

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

}  // namespace

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
