// StreamBackend: a CharacterBackend in front of descriptors: the terminal, a file, or who connects to a socket.
//
// Made in the main context; co_close() ends before it is destroyed. While nobody is connected to a socket, and after
// the other end is gone, output is dropped.
#pragma once

#include "hw/character.h"
#include "util/co_event.h"
#include "util/socket.h"
#include "util/task_scope.h"

#include <string>
#include <vector>

namespace ashlar {

class StreamBackend : public CharacterBackend {
public:
    StreamBackend() = default;  // to nowhere
    ~StreamBackend() override;

    // One of these. An invalid descriptor: nothing comes from there, or goes there.
    void serve(UniqueFd input, UniqueFd output);
    // One client at a time; `connected` is set when the first one has come.
    void listen(std::vector<UniqueFd> listeners, CoEvent* connected);
    // Whoever opens the other side of a pseudo-terminal, one after the other.
    void serve_pty(UniqueFd master);
    // Output that has not gone yet goes, as far as it is taken within a short time.
    [[nodiscard]] Task<void> co_close();

    void connect(CharacterDevice* device) override;
    size_t write(std::span<const uint8_t> bytes) override;
    void ready_to_receive() override;

private:
    static constexpr size_t kMaxOutput = 64 * 1024;

    struct Connection {
        Socket input, output;  // no output: both are `input`
        bool gone = false;
        Socket& out() { return output ? output : input; }
    };

    Task<void> co_read(Connection& connection);
    Task<void> co_write(Connection& connection);
    Task<void> co_serve(UniqueFd input, UniqueFd output);
    Task<void> co_serve_pty(UniqueFd master);
    Task<void> co_accept(UniqueFd listener, CoEvent* connected);

    CharacterDevice* device_ = nullptr;
    std::string output_;
    bool full_ = false;  // write() has not taken all
    bool closing_ = false;
    CoEvent room_, wanted_;
    std::vector<Connection*> connections_;
    std::vector<Socket*> listeners_;
    TaskScope scope_;
};

}  // namespace ashlar
