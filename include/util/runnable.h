// Runnable: something that an AioContext's loop is to run once, linked into its ready list.
//
// The owner keeps it alive until `run` is called and does not schedule it twice at a time. `run` may free it.
#pragma once

#include <coroutine>

namespace ashlar {

struct Runnable {
    void (*run)(Runnable&) = nullptr;
    Runnable* next = nullptr;  // the list it is in
};

// Resumes a coroutine; awaiters embed one.
struct Resumption : Runnable {
    std::coroutine_handle<> coroutine;

    Resumption() { run = [](Runnable& self) { static_cast<Resumption&>(self).coroutine.resume(); }; }
};

}  // namespace ashlar
