#include "monitor/qmp_address.h"
#include "monitor/qmp_schema.h"
#include "monitor/qmp_server.h"
#include "tests/unit/assert_text.h"
#include "util/co_event.h"
#include "util/json.h"
#include "util/json_stream.h"
#include "util/socket.h"
#include "util/sync_wait.h"
#include "util/timer.h"

#include <glib.h>
#include <sys/socket.h>

#include <list>
#include <set>
#include <thread>

using namespace ashlar;

namespace {

// A server of a few commands, and a way to talk to it.

enum class Colour { Red, Green };
constexpr auto enum_names(Colour) {
    return std::to_array<EnumName<Colour>>({{Colour::Red, "red"}, {Colour::Green, "green"}});
}

struct Shade {
    int depth = 0;

    static const OptionSet<Shade>& options() {
        static const auto set = OptionSet<Shade>("Shade").required("depth", &Shade::depth, "how dark");
        return set;
    }
};

struct PaintArgs {
    Colour colour = Colour::Red;
    Shade shade;
    std::optional<int> coats;

    static const OptionSet<PaintArgs>& options() {
        static const auto set = OptionSet<PaintArgs>("paint")
                                    .optional("coats", &PaintArgs::coats, "how many")
                                    .required("colour", &PaintArgs::colour, "which")
                                    .variant("green", &PaintArgs::shade);
        return set;
    }
};

struct ReopenArgs {
    std::vector<BlockdevDefinition> nodes;
    BlockdevRef other;

    static const OptionSet<ReopenArgs>& options() {
        static const auto set = OptionSet<ReopenArgs>("reopen")
                                    .required("nodes", &ReopenArgs::nodes, "to reopen")
                                    .optional("other", &ReopenArgs::other, "another");
        return set;
    }
};

struct Painted {
    std::string device;
    static const OptionSet<Painted>& options() {
        static const auto set = OptionSet<Painted>("painted").required("device", &Painted::device, "what");
        return set;
    }
};

constexpr QmpEvent<Painted> kPainted{"PAINTED"};
constexpr QmpEvent<Painted> kScratched{"SCRATCHED", true};

struct Shop {
    std::string log;
    unsigned held = 0;  // commands that wait for release
    CoEvent release;
};

Task<Result<void>> paint(Shop& shop, PaintArgs args) {
    shop.log += fmt::format("[{} {} {}]", enum_name(args.colour), args.coats.value_or(-1), args.shade.depth);
    if (args.coats == 0)
        co_return std::unexpected(Error{"no paint"}.with_hint("Buy some.").with_class(ErrorClass::DeviceNotFound));
    co_return Result<void>();
}

// Ends later than what is sent after it would.
Task<Result<std::vector<Shade>>> slow(Shop& shop) {
    shop.log += "[slow";
    co_await co_sleep(20'000'000);
    shop.log += "]";
    co_return std::vector<Shade>{{1}, {2}};
}

Task<Result<void>> hold(Shop& shop) {
    ++shop.held;
    co_await shop.release.wait();
    co_return Result<void>();
}

Task<void> release_later(Shop& shop) {
    co_await co_sleep(10'000'000);
    shop.release.set();
}

Task<Result<std::string>> large(Shop&) {
    co_return std::string(100'000, 'x');
}

Task<Result<void>> reopen(Shop& shop, ReopenArgs args) {
    shop.log += fmt::format("[{} nodes]", args.nodes.size());
    co_return Result<void>();
}

struct Fixture {
    Shop shop;
    std::unique_ptr<AioContext> context = *AioContext::create();
    QmpCommands commands;
    std::unique_ptr<QmpServer> server;

    Fixture() {
        commands.add("paint", shop, paint);
        commands.add("slow", shop, slow);
        commands.add("hold", shop, hold);
        commands.add("large", shop, large);
        commands.add("reopen", shop, reopen).deprecated = true;
        commands.add_event(kPainted);
        commands.add_event(kScratched);
        static const OptionSet<Painted>& common = Painted::options();
        commands.set_blockdev_type({.common = &common, .drivers = {{"dark", &Shade::options()}}});
        server = std::make_unique<QmpServer>(*context, commands);
    }
    ~Fixture() {
        if (server)
            stop();
    }
    void stop() {
        sync_wait(*context, server->stop());
        server.reset();
    }
    void turn(int64_t ns) { sync_wait(*context, co_sleep(ns)); }
};

class Client {
public:
    explicit Client(Fixture& fixture, bool negotiate = true) : fixture_(fixture) {
        int fds[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
        fixture.server->serve(UniqueFd(fds[0]));
        socket_ = Socket(UniqueFd(fds[1]));
        greeting = read();
        if (negotiate)
            assert_text(ask(R"({"execute": "qmp_capabilities"})"), R"({"return": {}})");
    }

    void send(std::string_view text) {
        iovec iov{const_cast<char*>(text.data()), text.size()};
        g_assert_cmpint(sync_wait(*fixture_.context, socket_.send_all(std::span(&iov, 1))), ==, 0);
    }

    // The next message, or "" at the end.
    std::string read() {
        for (;;) {
            size_t end = buffer_.find("\r\n");
            if (end != buffer_.npos) {
                std::string line = buffer_.substr(0, end);
                buffer_.erase(0, end + 2);
                return line;
            }
            int got = sync_wait(*fixture_.context, receive());
            if (got <= 0)
                return "";
        }
    }
    std::string ask(std::string_view text) {
        send(text);
        return read();
    }
    Socket& socket() { return socket_; }

    std::string greeting;

private:
    Task<int> receive() {
        std::byte bytes[4096];
        int got = co_await socket_.recv(bytes);
        if (got > 0)
            buffer_.append(reinterpret_cast<char*>(bytes), static_cast<size_t>(got));
        co_return got;
    }

    Fixture& fixture_;
    Socket socket_;
    std::string buffer_;
};

std::string error_of(const std::string& response) {
    auto json = parse_json(response);
    g_assert_true(json.has_value());
    return json->contains("error")
               ? (*json)["error"]["class"].get<std::string>() + ": " + (*json)["error"]["desc"].get<std::string>()
               : "no error: " + response;
}

// --- negotiation ---

void test_greeting() {
    Fixture fixture;
    Client client(fixture, false);
    auto greeting = parse_json(client.greeting);
    g_assert_true((*greeting)["QMP"]["version"]["qemu"]["major"].is_number_integer());
    g_assert_true((*greeting)["QMP"]["version"]["package"].is_string());
    assert_text(dump_json((*greeting)["QMP"]["capabilities"]), "[]");
}

void test_negotiation() {
    Fixture fixture;
    Client client(fixture, false);
    assert_text(error_of(client.ask(R"({"execute": "slow"})")),
                "CommandNotFound: Expecting capabilities negotiation with 'qmp_capabilities'");
    assert_text(error_of(client.ask(R"({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})")),
                "GenericError: Capability 'oob' is not available");
    assert_text(error_of(client.ask(R"({"execute": "qmp_capabilities", "arguments": {"enable": ["x"]}})")),
                "GenericError: Parameter 'enable[0]' does not accept value 'x'\nIt accepts oob.");
    assert_text(client.ask(R"({"execute": "qmp_capabilities", "id": 7})"), R"({"return": {}, "id": 7})");
    assert_text(error_of(client.ask(R"({"execute": "qmp_capabilities"})")),
                "CommandNotFound: Capabilities negotiation is already complete, command ignored");
}

// --- requests ---

void test_id() {
    Fixture fixture;
    Client client(fixture);
    assert_text(client.ask(R"({"id": {"a": [1, 2.5, "\u00fc"]}, "execute": "slow"})"),
                R"({"return": [{"depth": 1}, {"depth": 2}], "id": {"a": [1, 2.5, "\u00fc"]}})");
    assert_text(client.ask(R"({"execute": "no", "id": null})"),
                R"({"id": null, "error": {"class": "CommandNotFound", "desc": "The command no has not been found"}})");
}

void test_bad_requests() {
    Fixture fixture;
    Client client(fixture);
    struct {
        const char* text;
        const char* error;
    } const kCases[] = {
        {R"({"execute": 5})", "QMP input member 'execute' must be a string"},
        {R"({"execute": "slow", "arguments": 5})", "QMP input member 'arguments' must be an object"},
        {R"({"execute": "slow", "arguments": {"x": 1}})", "Parameter 'x' is unexpected"},
        {R"({"execute": "slow", "bogus": 5})", "QMP input member 'bogus' is unexpected"},
        {R"({"exec-oob": "slow"})", "QMP input member 'exec-oob' is unexpected"},
        {R"({"id": 1})", "QMP input lacks member 'execute'"},
        {R"([])", "QMP input must be a JSON object"},
        {R"("x")", "QMP input must be a JSON object"},
        {R"({"execute": "paint"})", "Parameter 'colour' is missing"},
        {R"({"execute": "paint", "arguments": {"colour": "green"}})", "Parameter 'depth' is missing"},
        {R"({"execute": "paint", "arguments": {"colour": "red", "depth": 1}})", "Parameter 'depth' is unexpected"},
        {R"({"execute": "paint", "arguments": {"colour": "red", "coats": "1"}})",
         "Invalid parameter type for 'coats', expected: integer"},
        {R"({"execute": "reopen", "arguments": {"nodes": ["x"]}})",
         "Invalid parameter type for 'nodes[0]', expected: object"},
    };
    for (const auto& c : kCases)
        assert_text(error_of(client.ask(c.text)), std::string("GenericError: ") + c.error);
    assert_text(fixture.shop.log, "");
}

void test_error_class_and_hint() {
    Fixture fixture;
    Client client(fixture);
    assert_text(error_of(client.ask(R"({"execute": "paint", "arguments": {"colour": "red", "coats": 0}})")),
                "DeviceNotFound: no paint\nBuy some.");
}

void test_resynchronise() {
    Fixture fixture;
    Client client(fixture);
    g_assert_true(error_of(client.ask("{\"execute\": \"sl\xff")).starts_with("GenericError: JSON parse error"));
    assert_text(client.ask(R"({'execute': 'paint', 'arguments': {'colour': 'red'}})"), R"({"return": {}})");
}

void test_pipelined() {
    Fixture fixture;
    Client client(fixture);
    client.send(
        R"({"execute":"slow","id":1}{"execute":"paint","arguments":{"colour":"green","depth":3,"coats":2},"id":2})"
        "\n\n"
        R"({"execute":"nothing","id":3})");
    g_assert_true(client.read().ends_with("\"id\": 1}"));
    g_assert_true(client.read().ends_with("\"id\": 2}"));
    g_assert_true(client.read().starts_with("{\"id\": 3, \"error\""));
    assert_text(fixture.shop.log, "[slow][green 2 3]");
}

void test_byte_by_byte() {
    Fixture fixture;
    Client client(fixture);
    for (char c : std::string_view(R"({"execute": "paint", "arguments": {"colour": "red"}})"))
        client.send({&c, 1});
    assert_text(client.read(), R"({"return": {}})");
}

void test_half_closed() {
    Fixture fixture;
    Client client(fixture);
    client.send(R"({"execute": "slow"})");
    ::shutdown(client.socket().fd(), SHUT_WR);
    assert_text(client.read(), R"({"return": [{"depth": 1}, {"depth": 2}]})");
    assert_text(client.read(), "");
    g_assert_cmpuint(fixture.server->clients(), ==, 0);
}

void test_many_clients() {
    Fixture fixture;
    std::list<Client> clients;
    for (int i = 0; i < 50; ++i)
        clients.emplace_back(fixture);
    for (Client& client : clients)
        client.send(R"({"execute": "hold"})");
    while (fixture.shop.held < 50)
        fixture.turn(1'000'000);
    fixture.shop.release.set();
    for (Client& client : clients)
        assert_text(client.read(), R"({"return": {}})");
    g_assert_cmpuint(fixture.server->clients(), ==, 50);
}

// --- clients that do not read ---

void test_unread_replies() {
    Fixture fixture;
    Client slow_client(fixture);
    for (int i = 0; i < 200; ++i)
        slow_client.send(R"({"execute": "large"})"
                         "\n");
    fixture.turn(50'000'000);
    // Its commands wait while others are served, and go on when it reads.
    Client other(fixture);
    assert_text(other.ask(R"({"execute": "paint", "arguments": {"colour": "red"}})"), R"({"return": {}})");
    for (int i = 0; i < 200; ++i)
        g_assert_cmpuint(slow_client.read().size(), >, 100'000);
}

void test_unread_events() {
    Fixture fixture;
    Client deaf(fixture);
    Client listening(fixture);
    std::string name(100'000, 'n');
    for (int i = 0; i < 100; ++i) {
        fixture.server->emit(kPainted, {name});
        g_assert_cmpuint(listening.read().size(), >, 100'000);
    }
    fixture.turn(10'000'000);
    g_assert_cmpuint(fixture.server->clients(), ==, 1);
    assert_text(listening.ask(R"({"execute": "paint", "arguments": {"colour": "red"}})"), R"({"return": {}})");
}

// --- events ---

void test_events() {
    Fixture fixture;
    Client first(fixture);
    Client second(fixture);
    Client deaf(fixture, false);
    fixture.server->emit(kPainted, {"door"});
    for (Client* client : {&first, &second}) {
        auto event = parse_json(client->read());
        assert_text((*event)["event"].get<std::string>(), "PAINTED");
        assert_text(dump_json((*event)["data"]), R"({"device": "door"})");
        int64_t now = g_get_real_time() / 1'000'000;
        g_assert_cmpint(std::abs((*event)["timestamp"]["seconds"].get<int64_t>() - now), <=, 2);
        g_assert_cmpint((*event)["timestamp"]["microseconds"].get<int64_t>(), <, 1'000'000);
    }
    assert_text(deaf.ask(R"({"execute": "qmp_capabilities"})"), R"({"return": {}})");  // and no event before it
}

void test_events_from_threads() {
    Fixture fixture;
    Client client(fixture);
    std::thread([&] {
        for (int i = 0; i < 10; ++i)
            fixture.server->emit(kPainted, {std::to_string(i)});
    }).join();
    for (int i = 0; i < 10; ++i)
        assert_text(dump_json((*parse_json(client.read()))["data"]), fmt::format(R"({{"device": "{}"}})", i));
}

void test_rate_limit() {
    Fixture fixture;
    Client client(fixture);
    auto next = [&] { return dump_json((*parse_json(client.read()))["data"]); };
    int64_t start = now_ns();
    fixture.server->emit(kScratched, {"a1"}, "a");
    fixture.server->emit(kScratched, {"a2"}, "a");
    fixture.server->emit(kScratched, {"b1"}, "b");
    fixture.server->emit(kScratched, {"a3"}, "a");
    assert_text(next(), R"({"device": "a1"})");
    assert_text(next(), R"({"device": "b1"})");
    assert_text(next(), R"({"device": "a3"})");
    g_assert_cmpint(now_ns() - start, >=, 990'000'000);
    fixture.server->emit(kScratched, {"a4"}, "a");
    fixture.stop();
    assert_text(next(), R"({"device": "a4"})");  // what was kept is not lost
    assert_text(client.read(), "");
}

// --- the end ---

void test_stop() {
    Fixture fixture;
    Client busy(fixture);
    Client deaf(fixture);
    busy.send(R"({"execute": "hold", "id": 1}{"execute": "hold", "id": 2})");
    for (int i = 0; i < 100; ++i)
        deaf.send(R"({"execute": "large"})");
    while (fixture.shop.held == 0)
        fixture.turn(1'000'000);
    TaskScope scope;
    scope.spawn(release_later(fixture.shop));
    int64_t start = now_ns();
    fixture.stop();
    g_assert_cmpint(now_ns() - start, <, 20'000'000'000);
    assert_text(busy.read(), R"({"return": {}, "id": 1})");  // was being executed
    assert_text(busy.read(), "");
}

// --- the schema ---

const Json& named(const Json& schema, std::string_view name) {
    for (const Json& info : schema)
        if (info["name"] == name)
            return info;
    g_error("no %s in the schema", std::string(name).c_str());
}

void test_schema() {
    Fixture fixture;
    Client client(fixture);
    Json schema = (*parse_json(client.ask(R"({"execute": "query-qmp-schema"})")))["return"];

    auto type_of = [&](const Json& object, std::string_view member) -> const Json& {
        for (const Json& m : object["members"])
            if (m["name"] == member)
                return named(schema, m["type"].get<std::string>());
        g_error("no member %s", std::string(member).c_str());
    };
    const Json& command = named(schema, "paint");
    assert_text(dump_json(command["meta-type"]), "\"command\"");
    const Json& args = named(schema, command["arg-type"].get<std::string>());
    assert_text(dump_json(args["tag"]), "\"colour\"");
    assert_text(dump_json(args["members"][0]), R"({"name": "coats", "default": null, "type": "int"})");
    assert_text(dump_json(type_of(args, "colour")["values"]), R"(["red", "green"])");
    assert_text(dump_json(args["variants"][0]["case"]), "\"red\"");
    const Json& none = named(schema, args["variants"][0]["type"].get<std::string>());
    assert_text(dump_json(none["members"]), "[]");
    assert_text(dump_json(none["name"]), dump_json(command["ret-type"]));
    const Json& green = named(schema, args["variants"][1]["type"].get<std::string>());
    assert_text(dump_json(green["members"]), R"([{"name": "depth", "type": "int"}])");

    const Json& list = named(schema, named(schema, "slow")["ret-type"].get<std::string>());
    assert_text(dump_json(list["element-type"]), dump_json(green["name"]));
    assert_text(list["name"].get<std::string>(), "[" + green["name"].get<std::string>() + "]");

    const Json& reopened = named(schema, "reopen");
    assert_text(dump_json(reopened["features"]), R"(["deprecated"])");
    const Json& other = type_of(named(schema, reopened["arg-type"].get<std::string>()), "other");
    assert_text(dump_json(other["meta-type"]), "\"alternate\"");
    const Json& blockdev = named(schema, other["members"][0]["type"].get<std::string>());
    assert_text(dump_json(blockdev["tag"]), "\"driver\"");
    assert_text(dump_json(type_of(blockdev, "driver")["values"]), R"(["dark"])");
    assert_text(dump_json(type_of(blockdev, "device")["json-type"]), "\"string\"");

    assert_text(dump_json(named(schema, "PAINTED")["meta-type"]), "\"event\"");

    // It is as it says itself that it is.
    for (const Json& info : schema)
        g_assert_true(SchemaInfo::options().parse(info, Typing::Strict).has_value());

    // Every type is described exactly once.
    for (const Json& info : schema)
        for (const char* key : {"arg-type", "ret-type", "element-type"})
            if (info.contains(key))
                named(schema, info[key].get<std::string>());
    std::set<std::string> names;
    for (const Json& info : schema)
        g_assert_true(names.insert(info["name"].get<std::string>()).second);
}

void test_query_commands() {
    Fixture fixture;
    Client client(fixture);
    assert_text(
        client.ask(R"({"execute": "query-commands"})"),
        R"({"return": [{"name": "qmp_capabilities"}, {"name": "query-commands"}, {"name": "query-qmp-schema"}, )"
        R"({"name": "paint"}, {"name": "slow"}, {"name": "hold"}, {"name": "large"}, {"name": "reopen"}]})");
}

// --- the address ---

void test_address() {
    auto unix_server = parse_qmp_address("unix:/tmp/a,,b,server=on,wait=off");
    assert_text(std::get<UnixAddress>(unix_server->socket).path, "/tmp/a,b");
    g_assert_true(unix_server->server && !unix_server->wait);
    auto old = parse_qmp_address("tcp:localhost:4444,server,nowait");
    g_assert_true(old->server && !old->wait);
    assert_text(std::get<InetAddress>(old->socket).port, "4444");
    auto client = parse_qmp_address("tcp:[::1]:4444");
    g_assert_true(!client->server);
    assert_text(std::get<InetAddress>(client->socket).host, "::1");

    auto error = [](std::string_view text) {
        auto address = parse_qmp_address(text);
        return address ? "no error" : address.error().message;
    };
    assert_text(error("unx:/tmp/x"), "'unx:/tmp/x': unknown kind of socket 'unx' (did you mean 'unix'?)");
    assert_text(error("unix:/tmp/x,wiat=off,server=on"), "Parameter 'wiat' is unexpected (did you mean 'wait'?)");
    assert_text(error("unix:/tmp/x,wait=off"),
                "'wait' option is incompatible with a socket in client mode: add server=on");
    assert_text(error("unix:,server=on"), "the path of the socket is missing");
    assert_text(error("tcp:x:1,server=on,abstract=on"), "abstract and tight are for unix:");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/qmp/greets-with-the-version", test_greeting);
    g_test_add_func("/qmp/nothing-goes-before-negotiation", test_negotiation);
    g_test_add_func("/qmp/id-comes-back", test_id);
    g_test_add_func("/qmp/bad-requests-are-refused", test_bad_requests);
    g_test_add_func("/qmp/errors-have-class-and-hint", test_error_class_and_hint);
    g_test_add_func("/qmp/a-lexical-error-resynchronises", test_resynchronise);
    g_test_add_func("/qmp/pipelined-commands-run-in-order", test_pipelined);
    g_test_add_func("/qmp/commands-may-come-byte-by-byte", test_byte_by_byte);
    g_test_add_func("/qmp/half-closed-clients-get-their-replies", test_half_closed);
    g_test_add_func("/qmp/clients-do-not-wait-for-each-other", test_many_clients);
    g_test_add_func("/qmp/unread-replies-stop-only-their-client", test_unread_replies);
    g_test_add_func("/qmp/unread-events-end-only-their-client", test_unread_events);
    g_test_add_func("/qmp/events-go-to-all-who-negotiated", test_events);
    g_test_add_func("/qmp/events-come-from-any-thread", test_events_from_threads);
    g_test_add_func("/qmp/similar-events-are-limited-to-one-a-second", test_rate_limit);
    g_test_add_func("/qmp/stop-finishes-what-is-executed", test_stop);
    g_test_add_func("/qmp/schema-describes-what-is-declared", test_schema);
    g_test_add_func("/qmp/query-commands-lists-them", test_query_commands);
    g_test_add_func("/qmp/addresses-are-as-in-qemu", test_address);
    return g_test_run();
}
