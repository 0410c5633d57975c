// InterruptSink and InterruptLine: a wire from a device to what takes its interrupts, and its level.
//
// Any thread sets a level; a sink is thread-safe, never waits, and outlives the lines that lead to it.
#pragma once

namespace ashlar {

class InterruptSink {
public:
    virtual ~InterruptSink() = default;
    virtual void set_level(unsigned input, bool level) = 0;
};

class InterruptLine {
public:
    InterruptLine() = default;  // leads nowhere
    InterruptLine(InterruptSink& sink, unsigned input) : sink_(&sink), input_(input) {}

    void set(bool level) const {
        if (sink_)
            sink_->set_level(input_, level);
    }

private:
    InterruptSink* sink_ = nullptr;
    unsigned input_ = 0;
};

}  // namespace ashlar
