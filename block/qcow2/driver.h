// The qcow2 format driver: a node over its `file`, with `backing` and `data-file` where the image has them.
#pragma once

#include "block/image_format.h"
#include "block/qcow2/image.h"
#include "util/timer.h"

#include <memory>

namespace ashlar::qcow2 {

class Qcow2Driver final : public BlockDriver, public ImageFormat {
public:
    Qcow2Driver(const OpenContext& context, Qcow2Options options, std::unique_ptr<Image> image);
    ~Qcow2Driver() override;

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override;
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override;
    Task<int> co_flush() override;
    Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) override;
    Task<int> co_close() override;
    Task<BlockStatus> co_block_status(bool want_zero, int64_t offset, int64_t bytes) override;
    int64_t length() const override { return image_->length.get(); }

    BlockLimits limits() const override;
    SupportedFlags supported_flags() const override;

    JsonBox specific_info() const override;
    int64_t cluster_size() const override { return static_cast<int64_t>(image_->geometry().cluster_size()); }
    bool may_have_holes() const override { return true; }
    std::string filename() const override;
    ImageFormat* image_format() override { return this; }

    BackingName backing_name() const override;
    bool is_dirty() const override { return image_->header_copy().has(kDirty); }
    Task<Result<ImageCheck>> co_check(CheckFix fix, CheckReporter report) override;
    Task<Result<void>> co_change_backing_name(BackingName name) override;
    Task<Result<void>> co_make_empty() override;
    Task<Result<void>> co_amend(Json options, bool force, Progress& progress) override;
    unsigned version() const { return image_->format.version; }
    std::vector<ImageSnapshot> snapshots() const override;
    Task<Result<void>> co_create_snapshot(ImageSnapshot snapshot) override;
    Task<Result<void>> co_apply_snapshot(std::string id) override;
    Task<Result<void>> co_delete_snapshot(std::string id) override;
    Task<Result<void>> co_show_snapshot(std::string id) override;
    int64_t vm_state_offset() const override;
    Task<int> co_write_vm_state(int64_t offset, std::span<const std::byte> data) override;
    Task<int> co_read_vm_state(int64_t offset, std::span<std::byte> data) override;
    std::vector<StoredBitmap> stored_bitmaps() const override;
    Result<void> can_store_bitmap(const std::string& name, uint32_t granularity) const override;
    Task<Result<void>> co_remove_bitmap(std::string name) override;

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override;
    void reopen_commit(ReopenContext& context) override;
    void reopen_abort(ReopenContext& context) override;

    // Of the whole disk, by who has just made the image.
    Task<Result<void>> co_preallocate(PreallocMode mode);

private:
    struct CleanTimer;
    struct Reopening;

    BdrvChild* backing() const;
    Task<Result<void>> co_resize_for_amend(int64_t size);
    // Before a change of any kind: 0, or -EIO if the image is known to be corrupt.
    Task<int> co_begin_change();
    bool may_change() const;  // without it
    Task<Result<void>> co_begin_operation();
    Task<int> co_store_bitmaps();

    Qcow2Options options_;
    std::unique_ptr<Image> image_;
    std::unique_ptr<CleanTimer> clean_timer_;
    std::unique_ptr<Reopening> reopening_;  // between prepare and commit or abort
};

}  // namespace ashlar::qcow2
