// QmpSession: one client's conversation, apart from how its bytes travel: negotiation, then commands.
//
// execute() takes what JsonStream gave, a value or an error, and gives the response; one at a time. See
// docs/interop/qmp-spec of QEMU.
#pragma once

#include "monitor/qmp_commands.h"

namespace ashlar {

class QmpSession {
public:
    explicit QmpSession(const QmpCommands& commands) : commands_(commands) {}

    static Json greeting();
    [[nodiscard]] Task<Json> execute(Result<Json> request);
    bool negotiated() const { return negotiated_; }  // else there are no events

private:
    Task<Result<JsonBox>> dispatch(const Json& request);

    const QmpCommands& commands_;
    bool negotiated_ = false;
};

}  // namespace ashlar
