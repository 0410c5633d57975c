#include "nbd/server_request.h"

#include <cassert>
#include <utility>

namespace ashlar::nbd {

bool ServerRequest::allocate(size_t bytes) {
    data = Buffer::try_alloc(bytes);
    data_iov = {data.data(), bytes};
    return static_cast<bool>(data);
}

RequestPool::~RequestPool() {
    assert(in_use_ == 0);
    while (free_)
        delete std::exchange(free_, free_->next);
}

ServerRequest& RequestPool::take(uint32_t bytes) {
    assert(admits(bytes));
    ServerRequest* request = free_;
    if (request) {
        free_ = request->next;
        free_count_--;
    } else {
        request = new ServerRequest;
    }
    request->charged = bytes;
    request->sends_data = false;
    in_use_++;
    bytes_ += bytes;
    return *request;
}

void RequestPool::free_data(ServerRequest& request) {
    request.data.reset();
    bytes_ -= std::exchange(request.charged, 0);
    room_.pulse();
}

void RequestPool::give_back(ServerRequest& request) {
    free_data(request);
    request.chunks.reset();
    request.pages.reset();
    request.mapped.reset();
    in_use_--;
    if (free_count_ == kMaxFree) {
        delete &request;
        return;
    }
    request.next = free_;
    free_ = &request;
    free_count_++;
}

}  // namespace ashlar::nbd
