#include "tools/machine/chardevs.h"

#include "monitor/daemon.h"
#include "nbd/client.h"
#include "util/report.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace ashlar {

namespace {

constexpr size_t kPtyName = 64;

void set_nodelay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

UniqueFd open_other_side(int master) {
    char name[kPtyName];
    return ptsname_r(master, name, sizeof name) ? UniqueFd() : UniqueFd(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
}

}  // namespace

Chardevs::~Chardevs() {
    for (const std::string& path : sockets_)
        unlink(path.c_str());
}

Task<Result<void>> Chardevs::co_open(CharPlace place) {
    if (std::ranges::any_of(entries_, [&](const auto& entry) { return entry->place.id == place.id; }))
        co_return fail("Duplicate ID '{}' for chardev", place.id);
    auto entry = std::make_unique<Entry>();
    entry->place = std::move(place);
    Result<void> opened;
    switch (entry->place.kind) {
        case CharPlace::Kind::Null:
            break;
        case CharPlace::Kind::Stdio:
            // Copies, so that closing them does not free the numbers 0 and 1 for other files.
            entry->input = UniqueFd(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
            entry->output = UniqueFd(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
            break;
        case CharPlace::Kind::File:
            entry->output =
                UniqueFd(open(entry->place.path.c_str(),
                              O_WRONLY | O_CREAT | O_CLOEXEC | (entry->place.append ? O_APPEND : O_TRUNC), 0666));
            if (!entry->output)
                opened = fail_errno(errno, "could not open '{}'", entry->place.path);
            break;
        case CharPlace::Kind::Pipe:
            opened = open_pipe(*entry);
            break;
        case CharPlace::Kind::Pty:
            opened = open_pty(*entry);
            break;
        case CharPlace::Kind::Socket:
            opened = co_await co_open_socket(*entry);
            break;
    }
    if (opened)
        entries_.push_back(std::move(entry));
    co_return opened;
}

// For reading and writing both, so that there is no hang-up while nobody has the other end open.
Result<void> Chardevs::open_pipe(Entry& entry) {
    const std::string& path = entry.place.path;
    const auto open_end = [](const std::string& name) {
        return UniqueFd(open(name.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    };
    entry.input = open_end(path + ".in");
    entry.output = open_end(path + ".out");
    if (entry.input && entry.output)
        return {};
    entry.input = open_end(path);
    entry.output = open_end(path);
    if (!entry.input || !entry.output)
        return fail_errno(errno, "could not open '{}'", path);
    return {};
}

// Its other side is closed again, so that the hang-up tells that nobody is there.
Result<void> Chardevs::open_pty(Entry& entry) {
    UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    char name[kPtyName];
    if (!master || grantpt(master.get()) < 0 || unlockpt(master.get()) < 0 ||
        ptsname_r(master.get(), name, sizeof name) != 0)
        return fail_errno(errno, "Failed to create PTY");
    UniqueFd other = open_other_side(master.get());
    termios raw;
    if (!other || tcgetattr(other.get(), &raw) < 0)
        return fail_errno(errno, "Failed to create PTY");
    cfmakeraw(&raw);
    if (tcsetattr(other.get(), TCSAFLUSH, &raw) < 0)
        return fail_errno(errno, "Failed to create PTY");
    entry.input = std::move(master);
    fmt::print("char device redirected to {} (label {})\n", name, entry.place.id);
    std::fflush(stdout);
    return {};
}

Task<Result<void>> Chardevs::co_open_socket(Entry& entry) {
    const QmpAddress& address = entry.place.address;
    if (!address.server) {
        auto socket = co_await nbd::co_connect(address.socket);
        if (!socket)
            co_return std::unexpected(std::move(socket.error()));
        if (address.nodelay)
            set_nodelay(socket->fd());
        entry.input = socket->release();
        co_return Result<void>();
    }
    auto listeners = listen_on(address.socket);
    if (!listeners)
        co_return std::unexpected(std::move(listeners.error()));
    if (const auto* unix_socket = std::get_if<UnixAddress>(&address.socket); unix_socket && !unix_socket->abstract)
        sockets_.push_back(unix_socket->path);
    if (address.nodelay)
        for (const UniqueFd& listener : *listeners)
            set_nodelay(listener.get());  // those that it accepts have it from there
    entry.listeners = std::move(*listeners);
    co_return Result<void>();
}

Result<Chardevs::Entry*> Chardevs::take(std::string_view id) {
    const auto found = std::ranges::find_if(entries_, [&](const auto& entry) { return entry->place.id == id; });
    if (found == entries_.end())
        return fail("chardev \"{}\" not found", id);
    Entry& entry = **found;
    if (std::exchange(entry.used, true) && !entry.place.mux)
        return std::unexpected(
            Error{fmt::format("Device '{}' is in use", id)}.with_hint("With mux=on a chardev may be used by several."));
    return &entry;
}

Task<Result<CharacterBackend*>> Chardevs::co_use(std::string id, User user) {
    auto taken = take(id);
    if (!taken)
        co_return std::unexpected(std::move(taken.error()));
    Entry& entry = **taken;
    if (!entry.backend) {
        entry.backend = std::make_unique<StreamBackend>();
        if (entry.place.mux)
            entry.mux =
                std::make_unique<CharMux>(*entry.backend, [this] { daemon_.request_shutdown(ShutdownCause::HostUi); });
        if (entry.place.kind == CharPlace::Kind::Stdio)
            terminal_ = std::make_unique<RawTerminal>(entry.place.signals);
        if (!entry.listeners.empty()) {
            entry.backend->listen(std::exchange(entry.listeners, {}), awaited(entry));
            co_await co_wait_for_client(entry);
        } else if (entry.place.kind == CharPlace::Kind::Pty) {
            entry.backend->serve_pty(std::move(entry.input));
        } else if (entry.input || entry.output) {
            entry.backend->serve(std::move(entry.input), std::move(entry.output));
        }
    }
    if (!entry.mux)
        co_return entry.backend.get();
    co_return &entry.mux->add(user == User::Monitor);
}

Task<Result<void>> Chardevs::co_use_for_qmp(std::string id, bool pretty) {
    auto taken = take(id);
    if (!taken)
        co_return std::unexpected(std::move(taken.error()));
    Entry& entry = **taken;
    if (entry.place.mux)
        co_return fail("chardev '{}': mux=on: QMP does not share it with others", id);
    QmpServer& qmp = daemon_.qmp();
    switch (entry.place.kind) {
        case CharPlace::Kind::Null:
        case CharPlace::Kind::File:
            co_return fail("chardev '{}': QMP needs one that something comes from", id);
        case CharPlace::Kind::Stdio:
        case CharPlace::Kind::Pipe:
            qmp.serve(std::move(entry.input), std::move(entry.output), pretty);
            break;
        case CharPlace::Kind::Pty: {
            // Whoever comes finds the greeting: there is no hang-up as long as this side is open.
            kept_open_.push_back(open_other_side(entry.input.get()));
            UniqueFd output(fcntl(entry.input.get(), F_DUPFD_CLOEXEC, 3));
            qmp.serve(std::move(entry.input), std::move(output), pretty);
            break;
        }
        case CharPlace::Kind::Socket:
            if (entry.listeners.empty()) {
                qmp.serve(std::move(entry.input), pretty);
                break;
            }
            qmp.listen(std::exchange(entry.listeners, {}), pretty, awaited(entry));
            co_await co_wait_for_client(entry);
            break;
    }
    co_return Result<void>();
}

CoEvent* Chardevs::awaited(const Entry& entry) {
    connected_.reset();
    return entry.place.address.wait ? &connected_ : nullptr;
}

Task<void> Chardevs::co_wait_for_client(const Entry& entry) {
    if (!entry.place.address.wait || daemon_.is_shutting_down())
        co_return;
    info_report("waiting for connection on: {}", entry.place.address.text);
    co_await connected_.wait();
}

void Chardevs::give_up_waiting() {
    connected_.set();
}

Task<void> Chardevs::co_close() {
    for (const auto& entry : entries_)
        if (entry->backend)
            co_await entry->backend->co_close();
    terminal_.reset();
}

}  // namespace ashlar
