// The memory of coroutine frames: per-thread free lists of fixed sizes, cut from slabs that are never given back.
//
// A frame may be freed on another thread than the one that made it; surplus frames move between threads through a
// shared list. scripts/ashlar-gdb.py walks the slabs to find every live coroutine: the first word of a live frame is the
// address of its resume function, the first word of a free one is not in the program's text. Under a sanitizer it is
// plain malloc, so that a use after free is seen.
#pragma once

#include <cstddef>

namespace ashlar {

[[nodiscard]] void* frame_alloc(std::size_t size);
void frame_free(void* frame, std::size_t size) noexcept;

}  // namespace ashlar
