// CharLink: connects the CharPort of a device in the harts' thread with a CharacterBackend. Made and destroyed in the
// main context, while the harts stand still; both outlive it.
#pragma once

#include "hw/char_port.h"
#include "hw/character.h"
#include "util/aio_context.h"

namespace ashlar {

class CharLink : private CharacterDevice, private CharPort::Listener {
public:
    CharLink(AioContext& main_context, CharPort& port, CharacterBackend& backend);
    ~CharLink() override;

private:
    size_t room() override { return port_.input_room(); }
    void receive(std::span<const uint8_t> bytes) override { port_.put_input(bytes); }
    void ready_to_send() override;
    void port_changed() override { changed_.schedule(); }
    void send();

    CharPort& port_;
    CharacterBackend& backend_;
    BottomHalf changed_;
    std::array<uint8_t, 512> bytes_;  // taken from the port, and not yet by the backend
    size_t first_ = 0, end_ = 0;
};

}  // namespace ashlar
