// A QMP client's bytes: the stream, the negotiation, the dispatch and the check of the arguments, with the real
// commands' options and handlers that do nothing. Every message has exactly one answer, which is JSON and has its id.
#include <cassert>
#include <optional>

#include "monitor/export_options.h"
#include "monitor/qmp_session.h"
#include "monitor/user_objects.h"
#include "util/json.h"
#include "util/json_stream.h"
#include "util/sync_wait.h"

using namespace ashlar;

namespace {

struct Nothing {};  // the handlers' context

// What was understood can be written, and read again.

template <class Args>
Task<Result<void>> accept(Nothing&, Args args) {
    const auto& set = Args::options();
    Json written = set.to_json(args);
    auto again = set.parse(written, Typing::Strict);
    assert(again && set.to_json(*again) == written);
    co_return Result<void>();
}

Task<Result<void>> accept_node(Nothing&, BlockdevDefinition node) {
    assert(node.definition().is_object());
    co_return Result<void>();
}

struct Fixture {
    Nothing nothing;
    std::unique_ptr<AioContext> context = *AioContext::create(AioContext::EngineKind::Epoll);
    QmpCommands commands;

    Fixture() {
        commands.add("object-add", nothing, accept<ObjectOptions>);
        commands.add("block-export-add", nothing, accept<BlockExportOptions>);
        commands.add("nbd-server-start", nothing, accept<NbdServerStartOptions>);
        commands.add("nbd-server-add", nothing, accept<NbdServerAddOptions>);
        commands.add("blockdev-add", nothing, accept_node);
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Fixture fixture;
    if (size == 0)
        return 0;
    QmpSession session(fixture.commands);
    JsonStream stream(JsonStreamLimits{.bytes = 4096, .elements = 256});
    if (data[0] & 1)  // else the input has to negotiate itself
        stream.feed(R"({"execute": "qmp_capabilities"})");
    stream.feed({reinterpret_cast<const char*>(data) + 1, size - 1});
    while (auto request = stream.next()) {
        std::optional<Json> id;
        if (*request)
            if (const Json* given = json_find(**request, "id"))
                id = *given;
        Json response = sync_wait(*fixture.context, session.execute(std::move(*request)));
        assert(response.contains("return") != response.contains("error"));
        const Json* echoed = json_find(response, "id");
        assert(id ? echoed && *echoed == *id : !echoed);
        auto parsed = parse_json_object(dump_json(response));
        assert(parsed && *parsed == response);
    }
    return 0;
}
