#include "hw/char_link.h"

namespace ashlar {

CharLink::CharLink(AioContext& main_context, CharPort& port, CharacterBackend& backend)
    : port_(port),
      backend_(backend),
      changed_(
          main_context,
          [](void* link) {
              auto* self = static_cast<CharLink*>(link);
              self->send();
              self->backend_.ready_to_receive();
          },
          this) {
    port_.attach_host(this);
    backend_.connect(this);
}

CharLink::~CharLink() {
    backend_.connect(nullptr);
    port_.attach_host(nullptr);
}

void CharLink::ready_to_send() {
    send();
}

void CharLink::send() {
    for (;;) {
        if (first_ == end_) {
            first_ = 0;
            end_ = port_.take_output(bytes_);
            if (end_ == 0)
                return;
        }
        const size_t taken = backend_.write(std::span(bytes_).subspan(first_, end_ - first_));
        if (taken == 0)
            return;  // ready_to_send() comes
        first_ += taken;
    }
}

}  // namespace ashlar
