// The main AioContext as a GSource: GLib sleeps on the engine's descriptor, and a dispatch runs turns of the loop for
// as long as they find work, so that under load GLib's own poll is rare.
#include <glib.h>

#include <algorithm>

#include "util/aio_context.h"
#include "util/engine.h"
#include "util/linux_aio.h"
#include "util/timer_heap.h"

namespace ashlar {

namespace {
constexpr int64_t kDispatchNs = 2'000'000;  // then GLib's other sources have their turn
}

struct AioSource {
    GSource base;
    AioContext* context;
    gpointer engine_tag;
    gpointer linux_aio_tag;
    int64_t asleep_since;

    static AioSource& of(GSource* source) { return *reinterpret_cast<AioSource*>(source); }

    static gboolean prepare(GSource* source, gint* timeout) {
        AioSource& self = of(source);
        AioContext& context = *self.context;
        Engine& engine = *context.engine_;
        *timeout = -1;
        context.end_sleep();  // GLib skips check() when a source of higher priority is ready
        LinuxAio* linux_aio = context.linux_aio_.get();
        if (linux_aio && linux_aio->submissions_pending())
            return TRUE;
        if (context.something_ready() || engine.submissions_pending() || engine.completions_visible())
            return TRUE;
        int64_t deadline = context.timers_->earliest();
        if (deadline != Engine::kForever) {
            int64_t left = std::max<int64_t>(0, deadline - now_ns());
            *timeout = static_cast<gint>(std::min<int64_t>((left + 999'999) / 1'000'000, G_MAXINT));
        }
        // An eventfd that the engine's own would have to pass on would be late (see UringEngine::wake()).
        if (linux_aio && !self.linux_aio_tag)
            self.linux_aio_tag = g_source_add_unix_fd(source, linux_aio->fd(), G_IO_IN);
        if (!engine.watch_begin())
            return TRUE;
        if (!context.prepare_sleep()) {
            engine.watch_end();
            return TRUE;
        }
        context.watched_ = true;
        self.asleep_since = now_ns();
        return FALSE;
    }

    static gboolean check(GSource* source) {
        AioSource& self = of(source);
        AioContext& context = *self.context;
        int64_t now = now_ns();
        bool signalled = g_source_query_unix_fd(source, self.engine_tag);
        if (self.linux_aio_tag && g_source_query_unix_fd(source, self.linux_aio_tag)) {
            context.linux_aio_->clear();
            signalled = true;
        }
        if (context.asleep_) {
            context.end_sleep();
            context.poll_time_.slept(now - self.asleep_since, context.poll_parameters());
        }
        return signalled || context.something_ready() || context.timers_->earliest() <= now;
    }

    static gboolean dispatch(GSource* source, GSourceFunc, gpointer) {
        AioContext& context = *of(source).context;
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
    self->engine_tag = g_source_add_unix_fd(source, engine_->fd(), G_IO_IN);
    self->linux_aio_tag = nullptr;
    g_source_set_name(source, "aio-context");
    return source;
}

}  // namespace ashlar
