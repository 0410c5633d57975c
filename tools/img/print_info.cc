#include "tools/img/print_info.h"

#include "tools/human_info.h"
#include "util/json.h"
#include "util/size.h"

#include <fmt/format.h>

#include <ctime>

namespace ashlar::img {

namespace {

std::string date_text(int64_t seconds) {
    const time_t when = seconds;
    std::tm local;
    char text[32];
    if (!localtime_r(&when, &local) || strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local) == 0)
        return "";
    return text;
}

}  // namespace

std::string snapshots_text(const std::vector<SnapshotInfo>& snapshots) {
    std::string out =
        fmt::format("{:<9} {:<16} {:>8} {:>19} {:>12} {:>10}\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (const SnapshotInfo& s : snapshots) {
        const std::string clock = fmt::format("{:02}:{:02}:{:02}.{:03}", s.vm_clock_sec / 3600,
                                              s.vm_clock_sec / 60 % 60, s.vm_clock_sec % 60, s.vm_clock_nsec / 1000000);
        out += fmt::format("{:<9} {:<16} {:>8} {:>19} {:>12} {:>10}\n", s.id, s.name, format_size(s.vm_state_size),
                           date_text(s.date_sec), clock, s.icount ? fmt::to_string(*s.icount) : "");
    }
    return out;
}

std::string image_text(const ImageInfo& info) {
    std::string out =
        fmt::format("image: {}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n", info.filename,
                    info.format, format_size(static_cast<uint64_t>(info.virtual_size)), info.virtual_size,
                    info.actual_size ? format_size(static_cast<uint64_t>(*info.actual_size)) : "unavailable");
    if (info.encrypted.value_or(false))
        out += "encrypted: yes\n";
    if (info.cluster_size)
        out += fmt::format("cluster_size: {}\n", *info.cluster_size);
    if (info.dirty_flag.value_or(false))
        out += "cleanly shut down: no\n";
    if (info.backing_filename) {
        out += fmt::format("backing file: {}", *info.backing_filename);
        if (info.full_backing_filename && *info.full_backing_filename != *info.backing_filename)
            out += fmt::format(" (actual path: {})", *info.full_backing_filename);
        out += "\n";
        if (info.backing_filename_format)
            out += fmt::format("backing file format: {}\n", *info.backing_filename_format);
    }
    if (info.snapshots)
        out += "Snapshot list:\n" + snapshots_text(*info.snapshots);
    if (info.format_specific)
        if (const Json* data = json_find(**info.format_specific, "data"); data && !data->empty())
            out += "Format specific information:\n" + human_info(*data, 4);
    return out;
}

}  // namespace ashlar::img
