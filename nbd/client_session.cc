#include "nbd/client_session.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "util/report.h"

namespace ashlar::nbd {

namespace {

constexpr int64_t kFirstRetryNs = 100'000'000;
constexpr int64_t kMaxRetryNs = 2'000'000'000;

}  // namespace

// A timer that calls something of ours.
struct ClientSession::Clock : Timer {
    void (*call)(void*);
    void* argument;

    Clock(AioContext& context, void (*function)(void*), void* what)
        : Timer(context,
                [](Timer& timer) {
                    auto& self = static_cast<Clock&>(timer);
                    self.call(self.argument);
                }),
          call(function),
          argument(what) {}
};

// One connection, or the attempts to have one.
struct ClientSession::Line {
    std::unique_ptr<ClientConnection> connection;  // while there is one
    bool retiring = false;                         // the server is shutting down: no more requests on it
    ConnectionAttempt attempt;
    CoEvent next_try;
    int64_t retry_ns = kFirstRetryNs;
    int64_t connected_at = 0;  // when it last was, or was tried
    Clock timer;               // of the attempt, or until the next one

    explicit Line(AioContext& home)
        : timer(
              home,
              [](void* line) {
                  static_cast<Line*>(line)->attempt.give_up();
                  static_cast<Line*>(line)->next_try.pulse();
              },
              this) {}
};

struct ClientSession::Pending : ClientRequest {
    ClientSession& session;
    CoWaiter waiter;
    int64_t deadline = 0;  // of repeating it; 0: it has not failed yet

    explicit Pending(ClientSession& s) : session(s) {
        done = [](ClientRequest& request) {
            auto& self = static_cast<Pending&>(request);
            self.session.answered(self);
        };
    }
};

struct ClientSession::Submission {
    Pending& request;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        request.waiter.prepare(h);
        request.session.post(request);
    }
    void await_resume() const noexcept {}
};

ClientSession::ClientSession(SessionOptions options)
    : options_(std::move(options)),
      home_(*AioContext::current()),
      hold_timer_(std::make_unique<Clock>(
          home_, [](void* self) { static_cast<ClientSession*>(self)->give_up_waiting(); }, this)),
      posted_bh_(home_, [](void* self) { static_cast<ClientSession*>(self)->take_posted(); }, this) {}

ClientSession::~ClientSession() {
    assert(waiting_.empty() && posted_.empty() && scope_.running() == 0);
}

// --- requests ---

Task<int> ClientSession::co_request(uint16_t command, uint16_t flags, uint64_t offset, uint64_t length,
                                    std::span<const iovec> data) {
    Pending request(*this);
    request.wire = {.flags = flags, .type = command, .offset = offset, .length = length};
    request.data = data;
    co_await Submission{request};
    co_return request.result;
}

Task<ClientSession::Status> ClientSession::co_block_status(uint64_t offset, uint64_t length) {
    Pending request(*this);
    request.wire = {.flags = kCmdFlagReqOne, .type = kCmdBlockStatus, .offset = offset, .length = length};
    co_await Submission{request};
    co_return Status{request.result, request.extent};
}

void ClientSession::post(Pending& request) {
    if (home_.in_own_thread())
        return dispatch(request);
    {
        std::lock_guard guard(posted_lock_);
        posted_.push_back(&request);
        if (posted_.size() > 1)
            return;  // whoever was first has called
    }
    posted_bh_.schedule();
}

void ClientSession::take_posted() {
    std::vector<Pending*> posted;
    {
        std::lock_guard guard(posted_lock_);
        posted.swap(posted_);
    }
    for (Pending* request : posted)
        dispatch(*request);
}

void ClientSession::dispatch(Pending& request) {
    ClientConnection* best = nullptr;
    for (const auto& line : lines_)
        if (line->connection && !line->retiring && (!best || line->connection->load() < best->load()))
            best = line->connection.get();
    if (best)
        best->submit(request);
    else if (holding_)
        waiting_.push_back(&request);
    else
        finish(request, -EIO);
}

void ClientSession::finish(Pending& request, int result) {
    request.result = result;
    request.waiter.wake();
}

// The connection that had the request is of no use any more.
void ClientSession::retry(Pending& request, int error) {
    const int64_t now = now_ns();
    if (request.deadline == 0)
        request.deadline = now + options_.reconnect_delay_ns;
    if (now >= request.deadline)
        finish(request, error);
    else
        dispatch(request);
}

void ClientSession::answered(Pending& request) {
    if (request.result != -ESHUTDOWN)
        return finish(request, request.result);
    // The server is going away; it answers what it has, and nothing else.
    for (const auto& line : lines_) {
        if (line->connection.get() != request.connection)
            continue;
        line->retiring = true;
        if (line->connection->load() == 0)
            line->connection->disconnect();
        break;
    }
    hold_if_none_is_left();
    retry(request, -ESHUTDOWN);
}

// --- connections ---

Task<Result<Entered>> ClientSession::co_enter_once(Line& line, int64_t limit_ns) {
    line.attempt = {};
    line.timer.arm(now_ns() + limit_ns);
    Result<Entered> entered;
    if (auto connected = co_await co_connect(line.attempt, options_.address); !connected)
        entered = std::unexpected(std::move(connected.error()));
    else
        entered = co_await co_enter(
            line.attempt.socket,
            {.export_name = options_.export_name,
             .contexts = options_.context.empty() ? std::vector<std::string>() : std::vector{options_.context}});
    line.timer.disarm();
    if (!entered && line.attempt.given_up && !closing_)
        co_return std::unexpected(
            Error{.message = fmt::format("the NBD server did not finish the handshake in {:.1f} s",
                                         static_cast<double>(limit_ns) / 1e9),
                  .code = ETIMEDOUT});
    co_return entered;
}

Task<Result<Entered>> ClientSession::co_enter_first(Line& line) {
    const int64_t deadline = now_ns() + options_.open_timeout_ns;
    for (;;) {
        const int64_t left = deadline - now_ns();
        const int64_t limit = options_.open_timeout_ns > 0
                                  ? std::clamp(left, kFirstRetryNs, options_.handshake_limit_ns)
                                  : options_.handshake_limit_ns;
        auto entered = co_await co_enter_once(line, limit);
        if (entered || entered.error().code == 0 || now_ns() >= deadline)
            co_return entered;
        co_await co_sleep(std::min(line.retry_ns, deadline - now_ns()));
        line.retry_ns = std::min(2 * line.retry_ns, kMaxRetryNs);
    }
}

Task<Result<std::unique_ptr<ClientSession>>> ClientSession::co_open(SessionOptions options) {
    std::unique_ptr<ClientSession> session(new ClientSession(std::move(options)));
    Line& first = *session->lines_.emplace_back(std::make_unique<Line>(session->home_));
    auto entered = co_await session->co_enter_first(first);
    if (!entered)
        co_return std::unexpected(std::move(entered.error()));
    session->style_ = entered->style;
    session->details_ = entered->details;
    session->use(first, *entered);
    if (session->has_flag(kCanMultiConn))
        while (session->lines_.size() < session->options_.connections)
            session->lines_.push_back(std::make_unique<Line>(session->home_));
    for (const auto& line : session->lines_) {
        ++session->kept_;
        session->scope_.spawn(session->co_keep(*line));
    }
    co_return session;
}

Task<void> ClientSession::co_close() {
    closing_ = true;
    for (const auto& line : lines_) {
        if (line->connection)
            line->connection->disconnect();
        line->attempt.give_up();
        line->next_try.pulse();
    }
    co_await scope_.join();
}

Result<> ClientSession::check_same(const Entered& entered) const {
    const ExportDetails &now = entered.details, &before = details_;
    if (now.info.size != before.info.size)
        return fail("the size of the NBD server's export has changed from {} to {}", before.info.size, now.info.size);
    if (now.info.flags != before.info.flags)
        return fail("the flags of the NBD server's export have changed from {:#x} to {:#x}", before.info.flags,
                    now.info.flags);
    if (now.block_sizes != before.block_sizes)
        return fail("the block sizes of the NBD server's export have changed");
    if (now.contexts.empty() != before.contexts.empty())
        return fail("the NBD server does not offer the metadata context '{}' as it did before", options_.context);
    if (entered.style == HeaderStyle::Simple && style_ != HeaderStyle::Simple)
        return fail("the NBD server does not know structured replies any more");
    if (entered.style != HeaderStyle::Extended && style_ == HeaderStyle::Extended)
        return fail("the NBD server does not know extended headers any more");
    return {};
}

void ClientSession::use(Line& line, const Entered& entered) {
    std::optional<uint32_t> context_id;
    if (!entered.details.contexts.empty())
        context_id = entered.details.contexts.front().id;
    line.connection = std::make_unique<ClientConnection>(std::move(line.attempt.socket), entered.style, context_id);
    line.retiring = false;
    line.connected_at = now_ns();
    ++connected_;
    holding_ = false;
    hold_timer_->disarm();
    for (Pending* request : std::exchange(waiting_, {}))
        dispatch(*request);
}

void ClientSession::hold_if_none_is_left() {
    if (holding_ || options_.reconnect_delay_ns == 0 ||
        std::ranges::any_of(lines_, [](const auto& line) { return line->connection && !line->retiring; }))
        return;
    holding_ = true;
    hold_timer_->arm(now_ns() + options_.reconnect_delay_ns);
}

// The time for which requests are held is over, or there is nothing left to wait for.
void ClientSession::give_up_waiting() {
    holding_ = false;
    hold_timer_->disarm();
    for (Pending* request : std::exchange(waiting_, {}))
        finish(*request, -EIO);
}

void ClientSession::lost(Line& line, const Error& why) {
    std::vector<ClientRequest*> requests = line.connection->take_lost();
    line.connection.reset();
    if (now_ns() - line.connected_at > kMaxRetryNs)
        line.retry_ns = kFirstRetryNs;
    --connected_;
    if (closing_)
        return;
    const bool again = why.code != 0;
    error_report("{}: {}", options_.name, why.message);
    if (again)
        hold_if_none_is_left();
    for (ClientRequest* request : requests) {
        auto& pending = static_cast<Pending&>(*request);
        if (again)
            retry(pending, -EIO);
        else
            finish(pending, -EIO);
    }
}

// Until there is a connection; false if there will not be one.
Task<bool> ClientSession::co_reconnect(Line& line) {
    while (!closing_) {
        if (line.connected_at != 0) {  // this is not the first
            line.timer.arm(now_ns() + line.retry_ns);
            line.retry_ns = std::min(2 * line.retry_ns, kMaxRetryNs);
            co_await line.next_try.wait();
            line.timer.disarm();
            if (closing_)
                break;
        }
        auto entered = co_await co_enter_once(line, options_.handshake_limit_ns);
        if (closing_)
            break;
        line.connected_at = now_ns();
        auto same = entered ? check_same(*entered) : Result<>();
        if (entered && same) {
            use(line, *entered);
            co_return true;
        }
        const Error& why = entered ? same.error() : entered.error();
        if (why.code == 0) {
            error_report("{}: {}", options_.name, why.message);
            break;
        }
    }
    co_return false;
}

Task<void> ClientSession::co_keep(Line& line) {
    for (;;) {
        if (!line.connection && !co_await co_reconnect(line))
            break;
        Error why = co_await line.connection->co_run();
        lost(line, why);
        if (closing_ || why.code == 0)
            break;
    }
    --kept_;
    if (kept_ == 0)
        give_up_waiting();
}

}  // namespace ashlar::nbd
