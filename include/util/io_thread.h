// IOThread: a thread that runs an AioContext of its own.
//
// Made and destroyed by the main thread; destroying it stops the loop and joins the thread, so nothing may be pending
// in its context by then. The context is made and destroyed by the thread itself.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "util/aio_context.h"

namespace ashlar {

class IOThread {
public:
    static Result<std::unique_ptr<IOThread>> create(std::string id,
                                                    AioContext::EngineKind kind = AioContext::EngineKind::Auto);
    ~IOThread();

    const std::string& id() const { return id_; }
    AioContext& context() const { return *context_; }
    int thread_id() const { return thread_id_; }  // the kernel's

private:
    explicit IOThread(std::string id) : id_(std::move(id)) {}

    std::string id_;
    int thread_id_ = 0;
    AioContext* context_ = nullptr;
    std::thread thread_;
};

}  // namespace ashlar
