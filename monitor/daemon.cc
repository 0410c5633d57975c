#include "monitor/daemon.h"

#include "monitor/commands.h"
#include "monitor/idle_machine.h"

namespace ashlar {

Daemon::Daemon(AioContext& context, const DriverRegistry& drivers)
    : context_(context),
      graph_(context, drivers),
      objects_(graph_),
      qmp_(context, commands_),
      exports_(graph_, objects_, qmp_),
      idle_machine_(std::make_unique<IdleMachine>(qmp_)),
      machine_(idle_machine_.get()) {
    add_events(commands_);
    add_machine_commands(commands_, *this);
    add_misc_commands(commands_, *this);
    add_bitmap_commands(commands_, *this);
    add_block_commands(commands_, *this);
    add_export_commands(commands_, *this);
    add_object_commands(commands_, *this);
    add_transaction_commands(commands_, *this);
}

Daemon::~Daemon() = default;

void Daemon::set_prelaunch() {
    idle_machine_->set_prelaunch();
}

void Daemon::request_shutdown(ShutdownCause cause) {
    if (shutdown_.is_set())
        return;
    qmp_.emit(kShutdown, {.guest = is_of_guest(cause), .reason = cause});
    shutdown_.set();
}

Task<void> Daemon::co_wait_for_shutdown() {
    co_await shutdown_.wait();
}

Task<Result<void>> Daemon::co_shutdown() {
    Result<void> result = co_await exports_.co_stop();
    // Clients of QMP see the exports go, and nothing that they ask for after this.
    co_await qmp_.stop();
    auto stopped = co_await exports_.co_stop();  // what a last command has made
    auto closed = co_await graph_.co_close_all();
    if (result)
        result = stopped ? std::move(closed) : std::move(stopped);
    co_return result;
}

}  // namespace ashlar
