// Internal snapshots of an image that is open: making, applying, deleting and showing them.
//
// In the main context, with no request in the node; but for showing, the image is writable. A crash leaves the image as
// it was before or as it is afterwards; while reference counts and the flags that depend on them are being changed the
// dirty bit says so, so that whoever opens the image next puts them right.
#pragma once

#include "block/image_format.h"
#include "block/qcow2/image.h"

namespace ashlar::qcow2 {

std::vector<ImageSnapshot> list_snapshots(const Image& image);

[[nodiscard]] Task<Result<void>> co_create_snapshot(Image& image, ImageSnapshot snapshot);
[[nodiscard]] Task<Result<void>> co_apply_snapshot(Image& image, std::string id);
[[nodiscard]] Task<Result<void>> co_delete_snapshot(Image& image, std::string id);
// In memory only.
[[nodiscard]] Task<Result<void>> co_show_snapshot(Image& image, std::string id);

// Of the snapshot table in the file: `image.snapshots` and how long it is.
[[nodiscard]] Task<Result<void>> co_load_snapshots(Image& image);

// Writes a new table with these snapshots and makes it the image's.
[[nodiscard]] Task<Result<void>> co_store_snapshots(Image& image, std::vector<Snapshot> snapshots);

// The state of a machine: behind the disk, where the guest sees nothing. It is kept until the next snapshot has it.
uint64_t vm_state_base(const Image& image);  // where it begins, as a guest's offset would count
[[nodiscard]] Task<int> co_write_vm_state(Image& image, int64_t offset, std::span<const std::byte> data);
[[nodiscard]] Task<int> co_read_vm_state(Image& image, int64_t offset, std::span<std::byte> data);
[[nodiscard]] Task<int> co_forget_vm_state(Image& image);

}  // namespace ashlar::qcow2
