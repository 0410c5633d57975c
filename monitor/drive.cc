#include "monitor/drive.h"

#include "block/accounting.h"
#include "block/cache_mode.h"
#include "block/image_options.h"
#include "block/temporary_overlay.h"
#include "block/throttle_groups.h"
#include "monitor/user_objects.h"
#include "util/keyval.h"
#include "util/report.h"

#include <algorithm>

namespace ashlar {

namespace {

// What is said of the device; the rest is for the node.
struct DriveOptions {
    std::optional<std::string> id;
    std::optional<std::string> file;
    std::string format;
    std::optional<DriveInterface> interface;
    std::string media = "disk";
    CacheMode cache = CacheMode::Writeback;
    std::string aio;
    std::optional<bool> readonly;
    std::optional<bool> write_cache;  // in the place of what the cache mode says
    bool snapshot = false;
    bool copy_on_read = false;
    std::string rerror, werror;
    std::optional<bool> account_invalid;
    std::optional<bool> account_failed;

    static const OptionSet<DriveOptions>& options() {
        using Drive = DriveOptions;
        static const auto set =
            OptionSet<Drive>("drive")
                .optional("id", &Drive::id, "name of the device")
                .optional("file", &Drive::file, "the image")
                .optional("format", &Drive::format, "its format (default: probed)")
                .optional("if", &Drive::interface, "what the drive is connected to")
                .optional("media", &Drive::media, "disk")
                .optional("cache", &Drive::cache, "cache mode")
                .optional("cache.writeback", &Drive::write_cache, "writes may be answered before they are stable")
                .optional("aio", &Drive::aio, "how requests are made")
                .optional("read-only", &Drive::readonly, "whether the drive cannot be written")
                .optional("snapshot", &Drive::snapshot, "keep changes in a temporary file")
                .optional("copy-on-read", &Drive::copy_on_read, "keep what is read from a backing file")
                .optional("rerror", &Drive::rerror, "what the disk does when a read fails")
                .optional("werror", &Drive::werror, "what the disk does when a write fails")
                .optional("stats-account-invalid", &Drive::account_invalid, "refused requests count as activity")
                .optional("stats-account-failed", &Drive::account_failed, "failed requests count in times");
        return set;
    }
};

// The names that options had before they were written as a tree.
constexpr std::pair<std::string_view, std::string_view> kOldNames[] = {
    {"readonly", "read-only"},
    {"iops", "throttling.iops-total"},
    {"iops_rd", "throttling.iops-read"},
    {"iops_wr", "throttling.iops-write"},
    {"bps", "throttling.bps-total"},
    {"bps_rd", "throttling.bps-read"},
    {"bps_wr", "throttling.bps-write"},
    {"iops_max", "throttling.iops-total-max"},
    {"iops_rd_max", "throttling.iops-read-max"},
    {"iops_wr_max", "throttling.iops-write-max"},
    {"bps_max", "throttling.bps-total-max"},
    {"bps_rd_max", "throttling.bps-read-max"},
    {"bps_wr_max", "throttling.bps-write-max"},
    {"iops_size", "throttling.iops-size"},
    {"group", "throttling.group"},
};

Result<void> rename_old(Json& options) {
    for (const auto& [old_name, name] : kOldNames) {
        auto it = options.find(old_name);
        if (it == options.end())
            continue;
        if (options.contains(name))
            return fail("'{}' and its alias '{}' can't be used at the same time", name, old_name);
        options[std::string(name)] = std::move(*it);
        options.erase(std::string(old_name));
    }
    return {};
}

Result<void> check(const DriveOptions& drive, bool has_disks) {
    if (drive.interface.value_or(DriveInterface::None) != DriveInterface::None && !has_disks)
        return std::unexpected(
            Error{fmt::format("machine type does not support if={}", enum_name(*drive.interface))}.with_hint(
                "Machine 'none' has no devices: use if=none, and export the drive with -nbd."));
    if (drive.media != "disk")
        return fail("'{}' invalid media: there are only disks", drive.media);
    if (drive.id && !is_valid_id(*drive.id))
        return fail("Parameter 'id' expects an identifier");
    if (drive.interface == DriveInterface::None && !(drive.rerror.empty() && drive.werror.empty()))
        return std::unexpected(
            Error{fmt::format("'{}' is for the disk, which if=none does not make",
                              drive.rerror.empty() ? "werror" : "rerror")}
                .with_hint("Say it of the device: -device virtio-blk-device,drive=ID,werror=...,rerror=..."));
    return {};
}

// What neither a node nor any driver has is a mistake in the drive's options, whatever the file turns out to be.
Result<void> reject_unknown(const DriverRegistry& drivers, const Json& tree) {
    Json unknown = Json::object();
    for (const auto& [key, value] : tree.items()) {
        bool known = NodeOptions::options().find(key) != nullptr;
        for (const DriverType* type : drivers.types())
            known |= type->options().find(key) != nullptr;
        if (!known)
            unknown[key] = value;
    }
    return DriveOptions::options().reject_rest(unknown);
}

// Turns the flat items into what the node and the throttling are made of.
struct DrivePlan {
    DriveOptions drive;
    std::vector<std::string> flags;  // the options that were written without '='
    std::optional<DriveThrottling> throttling;
    std::optional<Json> node;  // none: the drive is empty
};

// Whether anything in the options of the node says what it is, not only how it is used.
bool names_medium(const Json& tree) {
    constexpr std::string_view kUses[] = {"auto-read-only", "cache", "detect-zeroes", "discard", "force-share"};
    const auto& members = tree.get_ref<const Json::object_t&>();
    return !std::ranges::all_of(members, [&](const auto& m) { return std::ranges::count(kUses, m.first) != 0; });
}

Result<DrivePlan> plan_drive(const DriverRegistry& drivers, std::string_view argument, bool has_disks) {
    auto keyval = parse_keyval_flat(argument, {.flags = true});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    if (auto renamed = rename_old(keyval->options); !renamed)
        return std::unexpected(std::move(renamed.error()));
    auto drive = DriveOptions::options().take(keyval->options, Typing::Lenient);
    if (!drive)
        return std::unexpected(std::move(drive.error()));
    if (auto valid = check(*drive, has_disks); !valid)
        return std::unexpected(std::move(valid.error()));
    auto tree = crumple(keyval->options);
    if (!tree)
        return std::unexpected(std::move(tree.error()));

    DrivePlan plan{.drive = std::move(*drive), .flags = std::move(keyval->flags)};
    if (plan.drive.file && plan.drive.file->empty())
        plan.drive.file.reset();
    if (!plan.drive.format.empty() && tree->contains("driver"))
        return fail("Cannot specify both 'driver' and 'format'");
    if (tree->contains("throttling")) {
        OptionPlace place{.typing = Typing::Lenient};
        plan.throttling.emplace();
        auto read =
            OptionTraits<DriveThrottling>::read(*plan.throttling, (*tree)["throttling"], place.member("throttling"));
        if (!read)
            return std::unexpected(std::move(read.error()));
        tree->erase("throttling");
    }
    if (auto known = reject_unknown(drivers, *tree); !known)
        return std::unexpected(std::move(known.error()));

    Json file = Json::object();
    if (plan.drive.file && tree->contains("file")) {
        file = (*tree)["file"];
        tree->erase("file");
    }
    if (!plan.drive.aio.empty())
        file["aio"] = plan.drive.aio;
    if (plan.drive.file) {
        auto options = image_options(drivers, *plan.drive.file, plan.drive.format, file);
        if (!options)
            return std::unexpected(std::move(options.error()));
        plan.node = std::move(*options);
    } else if (plan.drive.format.empty() && !names_medium(*tree)) {
        return plan;
    } else {
        plan.node = Json::object();
        if (!plan.drive.format.empty())
            (*plan.node)["driver"] = plan.drive.format;
        else if (!tree->contains("driver") && !tree->contains("file"))
            return fail("Must specify either driver or file");
        if (!plan.drive.aio.empty())
            (*plan.node)["file"] = std::move(file);
    }
    if (auto merged = merge_options(*plan.node, *tree); !merged)
        return std::unexpected(std::move(merged.error()));
    return plan;
}

}  // namespace

std::optional<std::string> drive_help(const DriverRegistry& drivers, std::string_view argument) {
    auto keyval = parse_keyval_flat(argument, {.flags = true});
    const Json* format = keyval ? json_find(keyval->options, "format") : nullptr;
    const std::string* name = format ? json_string(*format) : nullptr;
    return name && is_help_request(*name) ? std::optional(formats_help(drivers)) : std::nullopt;
}

Task<Result<AddedDrive>> co_add_drive(BlockGraph& graph, std::string argument, DriveCounts& counts, bool has_disks) {
    auto plan = plan_drive(graph.registry(), argument, has_disks);
    if (!plan)
        co_return std::unexpected(std::move(plan.error()));
    for (const std::string& flag : plan->flags)
        report(Severity::Warning, fmt::format("-drive {}: short-form boolean option '{}' deprecated", argument, flag),
               flag.starts_with("no") ? fmt::format("Please use {}=off instead", flag.substr(2))
                                      : fmt::format("Please use {}=on instead", flag));
    const DriveOptions& drive = plan->drive;
    const DriveInterface interface =
        drive.interface.value_or(has_disks ? DriveInterface::Virtio : DriveInterface::None);
    const unsigned number = counts.count[static_cast<size_t>(interface)]++;
    NodeFlags flags;
    flags.direct = is_direct(drive.cache);
    flags.no_flush = is_no_flush(drive.cache);
    flags.read_only = drive.readonly.value_or(false);
    flags.auto_read_only = !drive.readonly;
    const bool copies = drive.copy_on_read && !flags.read_only;
    if (drive.copy_on_read && !copies)
        warn_report("-drive {}: disabling copy-on-read on read-only drive", argument);

    BlockDriverState* node = nullptr;
    if (plan->node) {
        NodeFlags lowest = flags;
        lowest.read_only |= drive.snapshot;
        auto opened = co_await graph.co_open(std::move(*plan->node), Typing::Lenient, lowest);
        if (opened && drive.snapshot)
            opened = co_await co_open_temporary_overlay(graph, **opened, flags);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        node = *opened;
    }
    auto backend = graph.add_backend(
        drive.id.value_or(fmt::format("{}{}", enum_name(interface), number)),
        {copies ? BlockPerm::ConsistentRead | BlockPerm::WriteUnchanged : BlockPerm::None, BlockPerm::All});
    Result<void> result;
    if (!backend)
        result = std::unexpected(std::move(backend.error()));
    if (node) {
        // The drive keeps the node from then on, or nobody does.
        if (result)
            result = co_await (*backend)->co_attach(*node);
        if (result && copies) {
            auto drained = co_await graph.co_drain(*node);
            node->copy_on_read();
        }
        if (auto released = co_await graph.co_unref(*node); !released && result)
            result = std::move(released);
    }
    if (!result)
        co_return std::unexpected(std::move(result.error()));

    (*backend)->set_write_cache(drive.write_cache.value_or(is_writeback(drive.cache)));
    BlockAccounting& accounting = (*backend)->accounting();
    accounting.set_account_invalid(drive.account_invalid.value_or(accounting.account_invalid()));
    accounting.set_account_failed(drive.account_failed.value_or(accounting.account_failed()));
    if (plan->throttling) {
        result = co_await co_set_io_throttle(**backend, plan->throttling->limits, plan->throttling->group,
                                             (*backend)->name());
        if (!result)
            co_return std::unexpected(std::move(result.error()));
    }
    co_return AddedDrive{(*backend)->name(), interface, drive.rerror, drive.werror};
}

}  // namespace ashlar
