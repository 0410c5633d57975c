// The events that QMP's clients are told of, each declared once. Main context, or any thread (QmpServer::emit).
#pragma once

#include "monitor/qmp_commands.h"

namespace ashlar {

// QAPI's, as far as it happens here.
enum class ShutdownCause : uint8_t {
    None,
    HostError,
    HostQmpQuit,
    HostQmpSystemReset,
    HostSignal,
    HostUi,
    GuestShutdown,
    GuestReset,
};
constexpr auto enum_names(ShutdownCause) {
    return std::to_array<EnumName<ShutdownCause>>({
        {ShutdownCause::None, "none"},
        {ShutdownCause::HostError, "host-error"},
        {ShutdownCause::HostQmpQuit, "host-qmp-quit"},
        {ShutdownCause::HostQmpSystemReset, "host-qmp-system-reset"},
        {ShutdownCause::HostSignal, "host-signal"},
        {ShutdownCause::HostUi, "host-ui"},
        {ShutdownCause::GuestShutdown, "guest-shutdown"},
        {ShutdownCause::GuestReset, "guest-reset"},
    });
}

struct ShutdownEvent {
    bool guest = false;
    ShutdownCause reason = ShutdownCause::None;

    static const OptionSet<ShutdownEvent>& options();
};
inline constexpr QmpEvent<ShutdownEvent> kShutdown{"SHUTDOWN"};
inline constexpr QmpEvent<ShutdownEvent> kReset{"RESET"};

// Of an event that has no data.
struct NoEventData {
    static const OptionSet<NoEventData>& options();
};
inline constexpr QmpEvent<NoEventData> kStop{"STOP"};
inline constexpr QmpEvent<NoEventData> kResume{"RESUME"};
inline constexpr QmpEvent<NoEventData> kPowerDown{"POWERDOWN"};

inline bool is_of_guest(ShutdownCause cause) {
    return cause == ShutdownCause::GuestShutdown || cause == ShutdownCause::GuestReset;
}

struct BlockExportDeletedEvent {
    std::string id;

    static const OptionSet<BlockExportDeletedEvent>& options();
};
inline constexpr QmpEvent<BlockExportDeletedEvent> kBlockExportDeleted{"BLOCK_EXPORT_DELETED"};

enum class IoErrorOperation : uint8_t { Read, Write };
constexpr auto enum_names(IoErrorOperation) {
    return std::to_array<EnumName<IoErrorOperation>>({
        {IoErrorOperation::Read, "read"},
        {IoErrorOperation::Write, "write"},
    });
}

enum class IoErrorAction : uint8_t { Ignore, Report, Stop };
constexpr auto enum_names(IoErrorAction) {
    return std::to_array<EnumName<IoErrorAction>>({
        {IoErrorAction::Ignore, "ignore"},
        {IoErrorAction::Report, "report"},
        {IoErrorAction::Stop, "stop"},
    });
}

struct BlockIoErrorEvent {
    std::string device;  // the drive; empty if the node has none
    std::optional<std::string> node_name;
    IoErrorOperation operation = IoErrorOperation::Read;
    IoErrorAction action = IoErrorAction::Report;
    std::optional<bool> nospace;
    std::string reason;

    static const OptionSet<BlockIoErrorEvent>& options();
};
inline constexpr QmpEvent<BlockIoErrorEvent> kBlockIoError{"BLOCK_IO_ERROR", true};

void add_events(QmpCommands& commands);

}  // namespace ashlar
