#include "block/image_info.h"

#include "block/file_name.h"
#include "block/host_storage.h"
#include "block/image_format.h"
#include "util/json.h"

#include <algorithm>

namespace ashlar {

const OptionSet<SnapshotInfo>& SnapshotInfo::options() {
    using Info = SnapshotInfo;
    static const auto set = OptionSet<Info>("SnapshotInfo")
                                .required("id", &Info::id, "number of the snapshot")
                                .required("name", &Info::name, "name of the snapshot")
                                .required("vm-state-size", &Info::vm_state_size, "bytes of the machine's state")
                                .required("date-sec", &Info::date_sec, "when it was taken, in seconds since 1970")
                                .required("date-nsec", &Info::date_nsec, "and nanoseconds")
                                .required("vm-clock-sec", &Info::vm_clock_sec, "the machine's clock, seconds")
                                .required("vm-clock-nsec", &Info::vm_clock_nsec, "and nanoseconds")
                                .optional("icount", &Info::icount, "instructions that the machine had executed");
    return set;
}

const OptionSet<ImageInfo>& ImageInfo::options() {
    static const auto set =
        OptionSet<ImageInfo>("ImageInfo")
            .required("filename", &ImageInfo::filename, "name of the image")
            .required("format", &ImageInfo::format, "its driver")
            .optional("dirty-flag", &ImageInfo::dirty_flag, "whether it was not closed properly")
            .optional("actual-size", &ImageInfo::actual_size, "bytes that it takes on the host")
            .required("virtual-size", &ImageInfo::virtual_size, "bytes of the disk")
            .optional("cluster-size", &ImageInfo::cluster_size, "bytes of a cluster")
            .optional("encrypted", &ImageInfo::encrypted, "whether the image is encrypted")
            .optional("backing-filename", &ImageInfo::backing_filename, "name of the backing file")
            .optional("full-backing-filename", &ImageInfo::full_backing_filename, "the same, with its folder")
            .optional("backing-filename-format", &ImageInfo::backing_filename_format, "the backing file's driver")
            .optional("snapshots", &ImageInfo::snapshots, "internal snapshots")
            .optional("backing-image", &ImageInfo::backing_image, "the backing file")
            .optional("format-specific", &ImageInfo::format_specific, "what only this format has");
    return set;
}

std::vector<SnapshotInfo> snapshot_infos(const BlockDriverState& node) {
    constexpr uint64_t kSecond = 1'000'000'000;
    std::vector<SnapshotInfo> infos;
    if (const ImageFormat* format = node.driver().image_format())
        for (const ImageSnapshot& snapshot : format->snapshots())
            infos.push_back({.id = snapshot.id,
                             .name = snapshot.name,
                             .vm_state_size = snapshot.vm_state_size,
                             .date_sec = snapshot.date_seconds,
                             .date_nsec = snapshot.date_nanoseconds,
                             .vm_clock_sec = static_cast<int64_t>(snapshot.vm_clock_ns / kSecond),
                             .vm_clock_nsec = static_cast<int64_t>(snapshot.vm_clock_ns % kSecond),
                             .icount = snapshot.icount});
    return infos;
}

namespace {

// Whether its data come from a file or a device of this host in the end.
bool is_on_host(const BlockDriverState& node) {
    if (HostStorage::of(node))
        return true;
    BdrvChild* child = node.primary_child();
    return child && is_on_host(child->node());
}

}  // namespace

BdrvChild* layer_below(const BlockDriverState& node) {
    return node.type().is_filter ? node.primary_child() : node.cow_child();
}

ImageInfo image_info(BlockDriverState& node, bool with_backing) {
    ImageInfo info{.filename = node.filename(), .format = std::string(node.type().name)};
    const BlockDriver& driver = node.driver();
    const ImageFormat* format = node.driver().image_format();
    if (format)
        info.dirty_flag = format->is_dirty();
    else if (is_on_host(node))
        info.dirty_flag = false;
    if (int64_t size = driver.allocated_size(); size >= 0)
        info.actual_size = size;
    info.virtual_size = std::max<int64_t>(node.length(), 0);
    const BlockDriverState* shown = &node;
    while (shown->type().is_filter)
        shown = &shown->primary_child()->node();
    if (int64_t size = shown->driver().cluster_size(); size > 0)
        info.cluster_size = size;
    if (JsonBox specific = driver.specific_info(); specific.has_value())
        info.format_specific = specific;
    if (auto snapshots = snapshot_infos(node); !snapshots.empty())
        info.snapshots = std::move(snapshots);

    BdrvChild* child = node.cow_child();
    BdrvChild* file = node.primary_child();
    BackingName named = format ? format->backing_name() : BackingName{};
    if (!named.filename.empty()) {
        info.backing_filename = named.filename;
        info.full_backing_filename = combine_names(file ? file->node().filename() : info.filename, named.filename);
        if (!named.format.empty())
            info.backing_filename_format = named.format;
    } else if (child) {
        info.backing_filename = info.full_backing_filename = child->node().filename();
        info.backing_filename_format = child->node().type().name;
    }
    if (BdrvChild* below = layer_below(node); below && with_backing)
        info.backing_image = std::make_shared<ImageInfo>(image_info(below->node(), true));
    return info;
}

}  // namespace ashlar
