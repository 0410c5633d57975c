// Chardevs: the character devices of the command line, by name: opened once, in order, and each given to one who uses
// it, the serial port, a monitor, QMP, gdb or a virtio console; to several if it is a mux.
//
// Main context. co_close() ends before it is destroyed; those who use it have let go of their backends by then.
#pragma once

#include "tools/machine/char_mux.h"
#include "tools/machine/char_place.h"
#include "tools/machine/stream_backend.h"
#include "tools/machine/terminal.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

class Daemon;

class Chardevs {
public:
    explicit Chardevs(Daemon& daemon) : daemon_(daemon) {}
    ~Chardevs();  // removes the sockets that were made
    Chardevs(const Chardevs&) = delete;

    [[nodiscard]] Task<Result<void>> co_open(CharPlace place);

    enum class User : uint8_t { Device, Monitor };
    // With wait=on it returns when the first client is there, or when give_up_waiting() has been called.
    [[nodiscard]] Task<Result<CharacterBackend*>> co_use(std::string id, User user);
    // Has the daemon's QMP server talk there. The same.
    [[nodiscard]] Task<Result<void>> co_use_for_qmp(std::string id, bool pretty);
    void give_up_waiting();

    // Output that has not gone yet goes, as far as it is taken within a short time. More than once does no harm.
    [[nodiscard]] Task<void> co_close();

private:
    struct Entry {
        CharPlace place;
        // What was opened, until somebody uses it.
        std::vector<UniqueFd> listeners;
        UniqueFd input, output;  // no output: `input` is a connected socket, or a pseudo-terminal
        std::unique_ptr<StreamBackend> backend;
        std::unique_ptr<CharMux> mux;
        bool used = false;
    };

    Result<Entry*> take(std::string_view id);
    CoEvent* awaited(const Entry& entry);  // what its first client is to set
    [[nodiscard]] Task<void> co_wait_for_client(const Entry& entry);
    Result<void> open_pipe(Entry& entry);
    Result<void> open_pty(Entry& entry);
    [[nodiscard]] Task<Result<void>> co_open_socket(Entry& entry);

    Daemon& daemon_;
    std::unique_ptr<RawTerminal> terminal_;
    std::vector<std::unique_ptr<Entry>> entries_;
    std::vector<UniqueFd> kept_open_;   // the other sides of QMP's pseudo-terminals
    std::vector<std::string> sockets_;  // to be removed
    CoEvent connected_;                 // the client that somebody waits for has come, or nobody is to wait
};

}  // namespace ashlar
