// ImageFormat: what the driver of an image format offers beyond requests: checks, snapshots, bitmaps, changes of the
// image itself. BlockDriver::image_format() gives it; it lives as long as the driver.
//
// Called in the main context, in its coroutines. What changes the image needs a node that is writable, with a parent
// that holds the permissions to write and resize, and no request in it (BlockGraph::co_drain). On failure the image is
// what it was, but for space that is lost until the next check. A format overrides what it has; the others say that
// they are not supported, with the code ENOTSUP.
#pragma once

#include "util/error.h"
#include "util/json_fwd.h"
#include "util/task.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ashlar {

class Progress;

enum class CheckFix : uint8_t { None, Leaks, All };

// What a check has found and done; as QAPI's ImageCheck. What a format does not count is not set.
struct ImageCheck {
    int64_t errors = 0;       // that kept the check from being complete
    int64_t corruptions = 0;  // left when it ended
    int64_t leaks = 0;        // clusters; left when it ended
    int64_t corruptions_fixed = 0;
    int64_t leaks_fixed = 0;
    std::optional<int64_t> image_end_offset;  // bytes
    struct Clusters {
        int64_t total = 0, allocated = 0, fragmented = 0, compressed = 0;
    };
    std::optional<Clusters> clusters;
};

// As the user is told of a finding, a line each: "Leaked cluster 5 refcount=1 reference=0".
using CheckReporter = std::function<void(const std::string& line)>;

struct ImageSnapshot {
    std::string id;
    std::string name;
    uint64_t vm_state_size = 0;  // bytes
    int64_t date_seconds = 0;    // since 1970
    uint32_t date_nanoseconds = 0;
    uint64_t vm_clock_ns = 0;
    std::optional<uint64_t> icount;
    uint64_t disk_size = 0;  // bytes
};

// The backing file as the image names it; an empty name: none.
struct BackingName {
    std::string filename;
    std::string format;  // empty: not said
};

// A dirty bitmap that is stored in the image.
struct StoredBitmap {
    std::string name;
    uint32_t granularity = 0;  // bytes
    bool in_use = false;       // was not stored by whoever wrote to the image last: what it says is not true
    bool automatic = false;    // goes on recording whenever the image is written
};

class ImageFormat {
public:
    // --- the image ---
    virtual BackingName backing_name() const { return {}; }
    virtual bool is_dirty() const { return false; }  // its reference counts are to be rebuilt
    [[nodiscard]] virtual Task<Result<ImageCheck>> co_check(CheckFix fix, CheckReporter report);
    // In the header only: the nodes stay connected as they are.
    [[nodiscard]] virtual Task<Result<void>> co_change_backing_name(BackingName name);
    // Takes everything out, so that all is read from the backing file.
    [[nodiscard]] virtual Task<Result<void>> co_make_empty();
    // `options`: an object of those that DriverType::amend_options names, lenient.
    [[nodiscard]] virtual Task<Result<void>> co_amend(Json options, bool force, Progress& progress);

    // --- internal snapshots ---
    virtual std::vector<ImageSnapshot> snapshots() const { return {}; }
    // The contents as they are. `snapshot.id` empty: the next free one. disk_size and vm_state_size are filled in.
    [[nodiscard]] virtual Task<Result<void>> co_create_snapshot(ImageSnapshot snapshot);
    // Those that find_snapshot() has found.
    [[nodiscard]] virtual Task<Result<void>> co_apply_snapshot(std::string id);
    [[nodiscard]] virtual Task<Result<void>> co_delete_snapshot(std::string id);
    // On a read-only node: it shows the snapshot from then on.
    [[nodiscard]] virtual Task<Result<void>> co_show_snapshot(std::string id);

    // --- the state of a machine, which is kept beside the disk until the next snapshot takes it ---
    virtual int64_t vm_state_offset() const { return 0; }  // where it is, as a guest's offset would count
    [[nodiscard]] virtual Task<int> co_write_vm_state(int64_t offset, std::span<const std::byte> data);
    [[nodiscard]] virtual Task<int> co_read_vm_state(int64_t offset, std::span<std::byte> data);

    // --- dirty bitmaps in the image ---
    virtual std::vector<StoredBitmap> stored_bitmaps() const { return {}; }
    // Whether a bitmap of the node, to be made now, could be stored when it is closed. That is then done for those that
    // are persistent, as DirtyBitmap says.
    virtual Result<void> can_store_bitmap(const std::string& name, uint32_t granularity) const;
    // A persistent one, stored already or not; it is still in the node's list.
    [[nodiscard]] virtual Task<Result<void>> co_remove_bitmap(std::string name);

    // By name or, if there is none of that name, by id. Null: none.
    static const ImageSnapshot* find_snapshot(std::span<const ImageSnapshot> snapshots, const std::string& name_or_id);

protected:
    ImageFormat() = default;
    ~ImageFormat() = default;
};

}  // namespace ashlar
