#include "util/io_thread.h"

#include <pthread.h>
#include <unistd.h>

#include <future>

namespace ashlar {

namespace {

void thread_main(AioContext::EngineKind kind, std::promise<Result<AioContext*>> started, const std::string& id,
                 int* thread_id) {
    pthread_setname_np(pthread_self(), ("IO " + id).substr(0, 15).c_str());
    *thread_id = gettid();
    auto context = AioContext::create(kind);
    if (!context) {
        started.set_value(std::unexpected(std::move(context.error())));
        return;
    }
    started.set_value(context->get());
    (*context)->run();
}

}  // namespace

Result<std::unique_ptr<IOThread>> IOThread::create(std::string id, AioContext::EngineKind kind) {
    std::unique_ptr<IOThread> self(new IOThread(std::move(id)));
    std::promise<Result<AioContext*>> started;
    auto context = started.get_future();
    self->thread_ = std::thread([&] { thread_main(kind, std::move(started), self->id_, &self->thread_id_); });
    auto result = context.get();
    if (!result)
        return std::unexpected(std::move(result.error()).prefixed("iothread " + self->id_));
    self->context_ = *result;
    return self;
}

IOThread::~IOThread() {
    if (context_)
        context_->stop();
    if (thread_.joinable())
        thread_.join();
}

}  // namespace ashlar
