#include "monitor/events.h"

namespace ashlar {

const OptionSet<ShutdownEvent>& ShutdownEvent::options() {
    static const auto set = OptionSet<ShutdownEvent>("SHUTDOWN")
                                .required("guest", &ShutdownEvent::guest, "whether the guest asked for it")
                                .required("reason", &ShutdownEvent::reason, "why");
    return set;
}

const OptionSet<NoEventData>& NoEventData::options() {
    static const auto set = OptionSet<NoEventData>("NoEventData");
    return set;
}

const OptionSet<BlockExportDeletedEvent>& BlockExportDeletedEvent::options() {
    static const auto set = OptionSet<BlockExportDeletedEvent>("BLOCK_EXPORT_DELETED")
                                .required("id", &BlockExportDeletedEvent::id, "of the export that is gone");
    return set;
}

const OptionSet<BlockIoErrorEvent>& BlockIoErrorEvent::options() {
    using Event = BlockIoErrorEvent;
    static const auto set = OptionSet<Event>("BLOCK_IO_ERROR")
                                .required("device", &Event::device, "the drive whose request failed, or empty")
                                .optional("node-name", &Event::node_name, "the node")
                                .required("operation", &Event::operation, "what failed")
                                .required("action", &Event::action, "what was done about it")
                                .optional("nospace", &Event::nospace, "whether there is no space left")
                                .required("reason", &Event::reason, "text for people");
    return set;
}

void add_events(QmpCommands& commands) {
    commands.add_event(kShutdown);
    commands.add_event(kReset);
    commands.add_event(kStop);
    commands.add_event(kResume);
    commands.add_event(kPowerDown);
    commands.add_event(kBlockExportDeleted);
    commands.add_event(kBlockIoError);
}

}  // namespace ashlar
