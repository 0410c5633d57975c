#include "tools/machine/char_mux.h"

namespace ashlar {

namespace {

constexpr uint8_t kEscape = 'a' & 0x1f;

constexpr std::string_view kHelp =
    "\r\n"
    "C-a h    print this help\r\n"
    "C-a x    exit emulator\r\n"
    "C-a c    switch between console and monitor\r\n"
    "C-a C-a  sends C-a\r\n";

}  // namespace

CharMux::CharMux(CharacterBackend& backend, std::function<void()> quit) : backend_(backend), quit_(std::move(quit)) {
    backend_.connect(this);
}

CharMux::~CharMux() {
    backend_.connect(nullptr);
}

CharacterBackend& CharMux::add(bool is_monitor) {
    ports_.push_back(std::make_unique<Port>(*this));
    if (!is_monitor)
        focus_ = ports_.size() - 1;
    return *ports_.back();
}

void CharMux::opened() {
    if (CharacterDevice* device = in_focus())
        device->opened();
}

size_t CharMux::room() {
    // As many as wait for the guest may come more, so that Ctrl-a is seen also while it does not read.
    return kWaiting - waiting_.size();
}

void CharMux::receive(std::span<const uint8_t> bytes) {
    for (uint8_t byte : bytes) {
        if (escaped_) {
            escaped_ = false;
            escape(byte);
        } else if (byte == kEscape) {
            escaped_ = true;
        } else {
            deliver(byte);
        }
    }
}

void CharMux::deliver(uint8_t byte) {
    waiting_.push_back(static_cast<char>(byte));
    pump();
}

// What the one in focus takes it gets.
void CharMux::pump() {
    while (!waiting_.empty() && in_focus() && in_focus()->room() > 0) {
        const auto byte = static_cast<uint8_t>(waiting_.front());
        waiting_.erase(0, 1);
        in_focus()->receive({&byte, 1});
    }
}

void CharMux::room_again() {
    pump();
    backend_.ready_to_receive();
}

void CharMux::escape(uint8_t byte) {
    switch (byte) {
        case kEscape:
            deliver(byte);
            break;
        case 'c':
            waiting_.clear();  // it was for the other one
            focus_ = ports_.empty() ? 0 : (focus_ + 1) % ports_.size();
            if (in_focus())
                in_focus()->focused();
            break;
        case 'x':
            show("ashlar: Terminated\r\n");
            quit_();
            break;
        case 'h':
        case '?':
            show(kHelp);
            break;
    }
}

void CharMux::show(std::string_view text) {
    (void)backend_.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

void CharMux::ready_to_send() {
    for (const auto& port : ports_)
        if (port->device)
            port->device->ready_to_send();
}

}  // namespace ashlar
