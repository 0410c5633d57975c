// Daemon: what a program that serves until it is told to stop consists of: the graph of nodes, objects, exports, and
// QMP with its commands. `ashlar` is one, and so is the storage daemon.
//
// Made by main() in the main context; co_shutdown() ends before it is destroyed.
#pragma once

#include "block/block_graph.h"
#include "monitor/block_exports.h"
#include "monitor/events.h"
#include "monitor/machine_control.h"
#include "monitor/qmp_server.h"
#include "monitor/user_objects.h"
#include "util/co_event.h"

#include <memory>
#include <string>

namespace ashlar {

class IdleMachine;

class Daemon {
public:
    Daemon(AioContext& context, const DriverRegistry& drivers);
    ~Daemon();

    AioContext& context() { return context_; }
    BlockGraph& graph() { return graph_; }
    UserObjects& objects() { return objects_; }
    BlockExports& exports() { return exports_; }
    QmpCommands& commands() { return commands_; }
    QmpServer& qmp() { return qmp_; }

    const std::string& name() const { return name_; }  // -name; may be empty
    void set_name(std::string name) { name_ = std::move(name); }
    // The machine `none` if it is not given another one, which then outlives the clients of QMP.
    MachineControl& machine() { return *machine_; }
    void set_machine(MachineControl& machine) { machine_ = &machine; }
    void set_prelaunch();  // -S

    void request_shutdown(ShutdownCause cause);  // the first one counts, and QMP's clients are told of it
    bool is_shutting_down() const { return shutdown_.is_set(); }
    [[nodiscard]] Task<void> co_wait_for_shutdown();

    // Ends the exports (what they have under way is answered), flushes and closes everything. An
    // error is one of flushing or closing: it is closed all the same.
    [[nodiscard]] Task<Result<void>> co_shutdown();

private:
    AioContext& context_;
    BlockGraph graph_;
    UserObjects objects_;
    QmpCommands commands_;
    QmpServer qmp_;
    BlockExports exports_;
    std::string name_;
    std::unique_ptr<IdleMachine> idle_machine_;
    MachineControl* machine_;
    CoEvent shutdown_;
};

}  // namespace ashlar
