// Completion: the callback form of "this has finished with `ret`".
//
// Embedded in a request, so that submitting allocates nothing. `fn` is called once, in the AioContext that submitted,
// and never before the call that submitted has returned. The request stays alive until then; `fn` may free it.
#pragma once

namespace ashlar {

struct Completion {
    void (*fn)(Completion&) = nullptr;
    int ret = 0;  // valid when fn is called: a byte count or 0, or a negative errno

    void finish(int result) {
        ret = result;
        fn(*this);
    }
};

}  // namespace ashlar
