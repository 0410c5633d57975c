#include "block/image_workers.h"

#include "block/file/file_driver.h"
#include "util/io_thread.h"
#include "util/task_scope.h"
#include "util/thread_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <thread>

namespace ashlar {

namespace {

// One copies out of the page cache while the other one copies into it; what is written to one file is written by one at
// a time.
constexpr unsigned kThreads = 2;
constexpr unsigned kPieces = 8;  // where each is a request that something is waited for

// The host reads ahead and writes behind: more pieces at a time than there is work for would only fill the CPUs'
// caches.
bool is_cached_by_host(const BlockDriverState& node) {
    if (auto* file = dynamic_cast<FileDriver*>(&node.driver()))
        return !file->host_file().is_direct();
    return !node.children().empty() &&
           std::ranges::all_of(node.children(), [](const auto& child) { return is_cached_by_host(child->node()); });
}

unsigned default_threads(bool busy) {
    return std::min(std::max(std::thread::hardware_concurrency(), 1u), busy ? kPieces : kThreads);
}

unsigned default_coroutines(const std::vector<BlockBackend*>& images, unsigned threads, bool busy) {
    if (threads > 0 &&
        std::ranges::all_of(images, [](BlockBackend* image) { return is_cached_by_host(*image->root()); }))
        return busy ? threads : 2 * threads;
    return kPieces;
}

}  // namespace

ImageWorkers::ImageWorkers(const Options& options)
    : busy_(options.busy),
      threads_(options.threads.value_or(default_threads(busy_))),
      coroutines_(options.coroutines.value_or(default_coroutines(options.images, threads_, busy_))),
      turns_(coroutines_) {}

void ImageWorkers::stop() {
    stopped_ = true;
    turns_.end();
}

void ImageWorkers::fail_with(Error error) {
    {
        std::lock_guard guard(error_lock_);
        if (!error_)
            error_ = std::move(error);
    }
    stop();
}

Task<Result<void>> ImageWorkers::co_work() {
    // What cannot have a thread of its own does without.
    std::vector<std::unique_ptr<IOThread>> threads;
    for (unsigned i = 0; i < std::min(threads_, coroutines_); ++i) {
        auto made = IOThread::create(fmt::format("worker{}", i));
        if (!made)
            break;
        threads.push_back(std::move(*made));
    }
    TaskScope workers;
    for (unsigned i = 0; i < coroutines_; ++i) {
        if (threads.empty())
            workers.spawn(co_worker());
        else
            workers.spawn_on(threads[i % threads.size()]->context(), co_threaded_worker());
    }
    co_await workers.join();
    if (error_)
        co_return std::unexpected(std::move(*error_));
    co_return {};
}

Task<void> ImageWorkers::co_threaded_worker() {
    set_own_work(busy_ ? OwnWork::All : OwnWork::BlockingCalls);
    co_await co_worker();
}

}  // namespace ashlar
