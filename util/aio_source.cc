// The main AioContext as a GSource: GLib sleeps on the engine's descriptor, and a dispatch runs turns of the loop for
// as long as they find work, so that under load GLib's own poll is rare.
#include <glib.h>

#include <algorithm>

#include "util/aio_context.h"
#include "util/engine.h"
#include "util/timer_heap.h"

namespace ashlar {

namespace {
constexpr int64_t kDispatchNs = 2'000'000;  // then GLib's other sources have their turn
}

struct AioSource {
    GSource base;
    AioContext* context;
    gpointer fd_tag;
    int64_t asleep_since;
    bool watching;

    static AioContext& of(GSource* source) { return *reinterpret_cast<AioSource*>(source)->context; }

    static gboolean prepare(GSource* source, gint* timeout) {
        AioContext& context = of(source);
        *timeout = -1;
        if (context.something_ready() || context.engine_->submissions_pending() ||
            context.engine_->completions_visible())
            return TRUE;
        int64_t deadline = context.timers_->earliest();
        if (deadline != Engine::kForever) {
            int64_t left = std::max<int64_t>(0, deadline - now_ns());
            *timeout = static_cast<gint>(std::min<int64_t>((left + 999'999) / 1'000'000, G_MAXINT));
        }
        if (!context.engine_->watch_begin())
            return TRUE;
        if (!context.prepare_sleep()) {
            context.engine_->watch_end();
            return TRUE;
        }
        auto* self = reinterpret_cast<AioSource*>(source);
        self->watching = true;
        self->asleep_since = now_ns();
        return FALSE;
    }

    static gboolean check(GSource* source) {
        auto* self = reinterpret_cast<AioSource*>(source);
        AioContext& context = *self->context;
        int64_t now = now_ns();
        bool signalled = g_source_query_unix_fd(source, self->fd_tag);
        if (self->watching) {
            self->watching = false;
            context.asleep_.store(false, std::memory_order_relaxed);
            context.engine_->watch_end();
            context.slept(now - self->asleep_since);
        }
        return signalled || context.something_ready() || context.timers_->earliest() <= now;
    }

    static gboolean dispatch(GSource* source, GSourceFunc, gpointer) {
        AioContext& context = of(source);
        int64_t end = now_ns() + kDispatchNs;
        do {
            while (context.poll(false) && now_ns() < end) {
            }
        } while (now_ns() < end && context.spin());
        return G_SOURCE_CONTINUE;
    }
};

GSource* AioContext::make_gsource() {
    static GSourceFuncs functions = {
        AioSource::prepare, AioSource::check, AioSource::dispatch, nullptr, nullptr, nullptr};
    GSource* source = g_source_new(&functions, sizeof(AioSource));
    auto* self = reinterpret_cast<AioSource*>(source);
    self->context = this;
    self->watching = false;
    self->fd_tag = g_source_add_unix_fd(source, engine_->fd(), G_IO_IN);
    g_source_set_name(source, "aio-context");
    return source;
}

}  // namespace ashlar
