// nbd-load: a load generator for NBD servers that is not the bottleneck.
//
// Keeps a fixed number of requests in flight on each connection and prints one line of JSON: requests, IOPS, MB/s,
// latency percentiles, its own CPU time and how much of the data it has verified. It spends as little as it can per
// request, so that the server is what is measured: one recv takes in many replies, one sendmsg carries all the requests
// that those replies make room for, and the clock is read once for each of them. It shares no code with our server.
//
// With --sync it prints "ready" once it is connected and warm and waits for a line on stdin before it measures, and for
// another (or the end of the file) before it disconnects: whoever drives it can read the server's CPU time in between.
//
// Every reply must name a request in flight. With --verify the export is expected to hold, and writes keep, the offset
// of each 4 KiB block in its first 8 bytes (big-endian), as `nbd-bench` prepares its file.
#include <getopt.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <thread>
#include <vector>

#include "wire.h"

using namespace bench;

namespace {

constexpr uint64_t kStampEvery = 4096;
constexpr int kPatienceMs = 30'000;  // a server that is silent for so long has lost a request

enum class Mode {
    Plain,      // one request in flight
    Pipelined,  // many in flight, each sent on its own, as most clients do
    Batched,    // many in flight, sent together
};

struct Settings {
    std::string unix_path, host, port, export_name;
    unsigned connections = 1;
    unsigned threads = 1;
    unsigned depth = 64;
    uint32_t block_size = 4096;
    bool write = false;
    bool random = true;
    Mode mode = Mode::Batched;
    double duration = 1;
    double warmup = 0.1;
    uint64_t count = 0;  // of requests; not 0: instead of the duration
    uint64_t seed = 1;
    bool structured = false;
    bool verify = false;
    bool sync = false;
};

uint64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

// Latencies in buckets of 1/32 of a power of two: percentiles are right within 3%.
class Histogram {
public:
    void add(uint64_t ns) {
        buckets_[index(ns)]++;
        max_ = std::max(max_, ns);
    }

    void merge(const Histogram& other) {
        for (size_t i = 0; i < buckets_.size(); i++)
            buckets_[i] += other.buckets_[i];
        max_ = std::max(max_, other.max_);
    }

    uint64_t percentile(double p) const {
        uint64_t total = 0;
        for (uint64_t n : buckets_)
            total += n;
        auto rank = static_cast<uint64_t>(static_cast<double>(total) * p / 100);
        for (size_t i = 0; i < buckets_.size(); i++) {
            if (rank < buckets_[i])
                return std::min(upper(i), max_);
            rank -= buckets_[i];
        }
        return max_;
    }

    uint64_t max() const { return max_; }

private:
    static constexpr unsigned kBits = 5;

    static size_t index(uint64_t ns) {
        if (ns < (1u << kBits))
            return ns;
        unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - kBits - 1;
        return ((shift + 1) << kBits) + (ns >> shift) - (1u << kBits);
    }

    static uint64_t upper(size_t i) {
        if (i < (1u << kBits))
            return i;
        unsigned shift = static_cast<unsigned>(i >> kBits) - 1;
        return (((i & ((1u << kBits) - 1)) + (1u << kBits) + 1) << shift) - 1;
    }

    std::array<uint64_t, (64 - kBits + 1) << kBits> buckets_{};
    uint64_t max_ = 0;
};

struct Tally {
    Histogram latency;
    uint64_t requests = 0;
    uint64_t verified = 0;  // stamps that were looked at
    uint64_t ns = 0;

    void merge(const Tally& other) {
        latency.merge(other.latency);
        requests += other.requests;
        verified += other.verified;
        ns = std::max(ns, other.ns);
    }
};

class Connection {
public:
    Connection(const Settings& settings, unsigned number) : settings_(settings), tcp_(settings.unix_path.empty()) {
        connect_to_server();
        handshake();
        uint64_t blocks = size_ / settings_.block_size;
        if (blocks == 0)
            die("the export is smaller than a block");
        block_ = blocks * number / settings_.connections;
        random_state_ = (settings_.seed + number) * 0x9e3779b97f4a7c15 | 1;
        slots_.resize(settings_.depth);
        slot_bytes_ = sizeof(Request) + (settings_.write ? settings_.block_size : 0);
        requests_ = std::make_unique<char[]>(slot_bytes_ * settings_.depth);
        for (size_t i = 0; i < slot_bytes_ * settings_.depth; i++)
            requests_[i] = static_cast<char>(i * 31 >> 3);
        buffer_ = std::make_unique<char[]>(kBuffer);
        for (unsigned i = 0; i < settings_.depth; i++)
            free_.push_back(settings_.depth - 1 - i);
    }

    ~Connection() {
        Request disc{.magic = htobe32(kRequestMagic),
                     .flags = 0,
                     .type = htobe16(kCmdDisc),
                     .cookie = 0,
                     .offset = 0,
                     .length = 0};
        send(fd_, &disc, sizeof disc, MSG_NOSIGNAL);
        close(fd_);
    }

    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    int fd() const { return fd_; }
    bool structured() const { return structured_; }
    bool idle() const { return free_.size() == slots_.size(); }
    bool wants_to_send() const { return first_unsent_ < unsent_.size(); }

    // Allows that many more requests and sends what the depth admits.
    void begin(uint64_t quota) {
        quota_ = quota;
        fill(now_ns());
    }

    void stop() { quota_ = 0; }

    // Takes in what has arrived (waiting for it when `wait`) and asks for more. Returns the time.
    uint64_t receive(bool wait, Tally& tally) {
        if (wait && wants_to_send())
            wait_for_socket();
        int flags = wait && !wants_to_send() ? 0 : MSG_DONTWAIT;
        if (tcp_ && payload_left_ >= kDiscardFrom && have_ == 0) {
            ssize_t n = recv(fd_, nullptr, payload_left_, flags | MSG_TRUNC);
            uint64_t now = now_ns();
            if (received(n)) {
                payload_left_ -= static_cast<uint64_t>(n);
                payload_offset_ += static_cast<uint64_t>(n);
                if (payload_left_ == 0)
                    end_of_payload(now, tally);
            }
            fill(now);
            return now;
        }
        ssize_t n = recv(fd_, &buffer_[have_], kBuffer - have_, flags);
        uint64_t now = now_ns();
        if (received(n)) {
            have_ += static_cast<size_t>(n);
            parse(now, tally);
        }
        fill(now);
        return now;
    }

    // Sends what is due; what the socket does not take now waits for the next call.
    void send_due() {
        while (wants_to_send()) {
            msghdr msg{};
            msg.msg_iov = &unsent_[first_unsent_];
            msg.msg_iovlen = std::min<size_t>(unsent_.size() - first_unsent_, IOV_MAX);
            ssize_t n = sendmsg(fd_, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0) {
                if (errno == EAGAIN || errno == EINTR)
                    return;
                die("send: %s", strerror(errno));
            }
            auto done = static_cast<size_t>(n);
            while (first_unsent_ < unsent_.size() && done >= unsent_[first_unsent_].iov_len)
                done -= unsent_[first_unsent_++].iov_len;
            if (done) {
                iovec& part = unsent_[first_unsent_];
                part = {static_cast<char*>(part.iov_base) + done, part.iov_len - done};
            }
        }
        unsent_.clear();
        first_unsent_ = 0;
    }

private:
    static constexpr size_t kBuffer = 256 << 10;        // stays in the second-level cache
    static constexpr uint64_t kDiscardFrom = 32 << 10;  // a payload of so many bytes is worth a call of its own

    struct Slot {
        uint64_t sent = 0;        // when
        uint64_t offset = 0;      // of the request in the export
        uint32_t generation = 0;  // of the cookie: a reply must name this one
        uint32_t missing = 0;     // bytes of data not received yet
        bool in_flight = false;
    };

    void connect_to_server() {
        if (!settings_.unix_path.empty()) {
            sockaddr_un addr = unix_address(settings_.unix_path);
            fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (connect(fd_, reinterpret_cast<sockaddr*>(&addr), sizeof addr))
                die("%s: connect: %s", settings_.unix_path.c_str(), strerror(errno));
        } else {
            addrinfo hints{}, *found;
            hints.ai_socktype = SOCK_STREAM;
            if (int e = getaddrinfo(settings_.host.c_str(), settings_.port.c_str(), &hints, &found); e)
                die("%s: %s", settings_.host.c_str(), gai_strerror(e));
            fd_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (connect(fd_, found->ai_addr, found->ai_addrlen))
                die("%s:%s: connect: %s", settings_.host.c_str(), settings_.port.c_str(), strerror(errno));
            freeaddrinfo(found);
            no_delay(fd_);
        }
        timeval patience{.tv_sec = kPatienceMs / 1000, .tv_usec = 0};
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }

    void send_option(uint32_t option, uint32_t length) {
        send_be64(fd_, kOptionMagic);
        send_be32(fd_, option);
        send_be32(fd_, length);
    }

    uint32_t recv_option_reply(uint32_t option, std::vector<char>& payload) {
        if (recv_be64(fd_) != kOptionReplyMagic || recv_be32(fd_) != option)
            die("the reply to option %u is not one", option);
        uint32_t type = recv_be32(fd_);
        payload.resize(recv_be32(fd_));
        recv_exactly(fd_, payload.data(), payload.size());
        return type;
    }

    void handshake() {
        if (recv_be64(fd_) != kInitMagic || recv_be64(fd_) != kOptionMagic)
            die("the server does not speak the newstyle protocol");
        uint16_t flags = recv_be16(fd_);
        if (!(flags & kFlagFixedNewstyle))
            die("the server does not speak the fixed newstyle protocol");
        send_be32(fd_, flags & (kFlagFixedNewstyle | kFlagNoZeroes));
        std::vector<char> payload;
        if (settings_.structured) {
            send_option(kOptStructuredReply, 0);
            structured_ = recv_option_reply(kOptStructuredReply, payload) == kRepAck;
        }
        const std::string& name = settings_.export_name;
        send_option(kOptGo, static_cast<uint32_t>(4 + name.size() + 2));
        send_be32(fd_, static_cast<uint32_t>(name.size()));
        send_exactly(fd_, name.data(), name.size());
        send_be16(fd_, 0);
        for (uint32_t type; (type = recv_option_reply(kOptGo, payload)) != kRepAck;) {
            if (type != kRepInfo)
                die("the server refuses export '%s': reply %#x %.*s", name.c_str(), type,
                    static_cast<int>(payload.size()), payload.data());
            uint16_t info;
            if (payload.size() >= 12 && (memcpy(&info, payload.data(), 2), be16toh(info)) == kInfoExport) {
                memcpy(&size_, payload.data() + 2, sizeof size_);
                size_ = be64toh(size_);
            }
        }
    }

    uint64_t next_offset() {
        uint64_t blocks = size_ / settings_.block_size;
        if (settings_.random) {
            random_state_ ^= random_state_ << 13;
            random_state_ ^= random_state_ >> 7;
            random_state_ ^= random_state_ << 17;
            block_ = static_cast<uint64_t>(static_cast<unsigned __int128>(random_state_) * blocks >> 64);
            return block_ * settings_.block_size;
        }
        if (block_ >= blocks)
            block_ = 0;
        return block_++ * settings_.block_size;
    }

    void fill(uint64_t now) {
        while (quota_ > 0 && !free_.empty()) {
            uint32_t index = free_.back();
            free_.pop_back();
            quota_--;
            Slot& slot = slots_[index];
            slot.offset = next_offset();
            slot.sent = now;
            slot.generation++;
            slot.missing = settings_.write ? 0 : settings_.block_size;
            slot.in_flight = true;
            char* memory = &requests_[index * slot_bytes_];
            Request request{.magic = htobe32(kRequestMagic),
                            .flags = 0,
                            .type = htobe16(settings_.write ? kCmdWrite : kCmdRead),
                            .cookie = static_cast<uint64_t>(slot.generation) << 32 | index,
                            .offset = htobe64(slot.offset),
                            .length = htobe32(settings_.block_size)};
            memcpy(memory, &request, sizeof request);
            if (settings_.write && settings_.verify)
                stamp(memory + sizeof request, slot.offset);
            unsent_.push_back({memory, slot_bytes_});
            if (settings_.mode != Mode::Batched)
                send_due();
        }
        send_due();
    }

    void stamp(char* data, uint64_t offset) {
        for (uint64_t at = 0; at + kStampEvery <= settings_.block_size; at += kStampEvery) {
            uint64_t value = htobe64(offset + at);
            memcpy(data + at, &value, sizeof value);
        }
    }

    void wait_for_socket() {
        pollfd p{.fd = fd_, .events = POLLIN | POLLOUT, .revents = 0};
        if (poll(&p, 1, kPatienceMs) == 0)
            die("no reply within %d s", kPatienceMs / 1000);
        if (p.revents & POLLOUT)
            send_due();
    }

    bool received(ssize_t n) {
        if (n > 0)
            return true;
        if (n == 0)
            die("the server closed the connection");
        if (errno == EAGAIN && slots_.size() > free_.size() && now_ns() - oldest() > kPatienceMs * 1'000'000ull)
            die("no reply within %d s", kPatienceMs / 1000);
        if (errno != EAGAIN && errno != EINTR)
            die("recv: %s", strerror(errno));
        return false;
    }

    uint64_t oldest() const {
        uint64_t t = UINT64_MAX;
        for (const Slot& slot : slots_)
            if (slot.in_flight)
                t = std::min(t, slot.sent);
        return t;
    }

    Slot& slot_of(uint64_t cookie) {
        auto index = static_cast<uint32_t>(cookie);
        if (index >= slots_.size() || !slots_[index].in_flight || slots_[index].generation != cookie >> 32)
            die("a reply to a request that is not in flight: cookie %#lx", cookie);
        return slots_[index];
    }

    void parse(uint64_t now, Tally& tally) {
        size_t at = 0;
        for (;;) {
            if (payload_left_ > 0) {
                size_t here = std::min<uint64_t>(payload_left_, have_ - at);
                verify(&buffer_[at], here, tally);
                at += here;
                payload_left_ -= here;
                payload_offset_ += here;
                if (payload_left_ > 0)
                    break;
                end_of_payload(now, tally);
            }
            size_t used = parse_header(&buffer_[at], have_ - at, now, tally);
            if (used == 0)
                break;
            at += used;
        }
        have_ -= at;
        if (have_)
            memmove(&buffer_[0], &buffer_[at], have_);
    }

    // How many bytes the header at `p` takes, 0 if it has not arrived entirely.
    size_t parse_header(const char* p, size_t bytes, uint64_t now, Tally& tally) {
        if (bytes < sizeof(SimpleReply))
            return 0;
        SimpleReply simple;
        memcpy(&simple, p, sizeof simple);
        if (be32toh(simple.magic) == kSimpleReplyMagic) {
            Slot& slot = slot_of(simple.cookie);
            if (simple.error)
                die("error %u at offset %lu", be32toh(simple.error), slot.offset);
            begin_payload(slot, slot.offset, slot.missing, true);
            if (payload_left_ == 0)
                end_of_payload(now, tally);
            return sizeof simple;
        }

        ChunkHeader chunk;
        if (bytes < sizeof chunk)
            return 0;
        memcpy(&chunk, p, sizeof chunk);
        if (be32toh(chunk.magic) != kStructuredReplyMagic || !structured_)
            die("a reply with magic %#x", be32toh(chunk.magic));
        Slot& slot = slot_of(chunk.cookie);
        uint16_t type = be16toh(chunk.type);
        uint32_t length = be32toh(chunk.length);
        bool done = be16toh(chunk.flags) & kChunkDone;
        size_t head = type == kChunkData ? sizeof(uint64_t) : type == kChunkHole ? 12 : length;
        if (bytes < sizeof chunk + head)
            return 0;
        p += sizeof chunk;
        if (type & kChunkErrorBit) {
            uint32_t error;
            memcpy(&error, p, sizeof error);
            die("error %u at offset %lu", be32toh(error), slot.offset);
        }
        uint64_t offset = slot.offset;
        uint32_t data = 0;
        if (type == kChunkData || type == kChunkHole) {
            memcpy(&offset, p, sizeof offset);
            offset = be64toh(offset);
            uint32_t hole = 0;
            if (type == kChunkHole)
                memcpy(&hole, p + sizeof offset, sizeof hole);
            data = type == kChunkData ? length - static_cast<uint32_t>(head) : be32toh(hole);
            if (data > slot.missing || offset < slot.offset || offset + data > slot.offset + settings_.block_size)
                die("a chunk at offset %lu, length %u that was not asked for", offset, data);
            if (type == kChunkHole && settings_.verify)
                die("a hole at offset %lu where the file has none", offset);
        } else if (type != kChunkNone) {
            die("a chunk of type %u", type);
        }
        begin_payload(slot, offset, type == kChunkData ? data : 0, done);
        if (type == kChunkHole)
            slot.missing -= data;
        if (payload_left_ == 0)
            end_of_payload(now, tally);
        return sizeof chunk + head;
    }

    void begin_payload(Slot& slot, uint64_t offset, uint32_t bytes, bool last) {
        current_ = &slot;
        current_is_last_ = last;
        payload_offset_ = offset;
        payload_left_ = bytes;
        slot.missing -= bytes;
    }

    void end_of_payload(uint64_t now, Tally& tally) {
        if (!current_is_last_)
            return;
        if (current_->missing)
            die("the reply at offset %lu lacks %u bytes", current_->offset, current_->missing);
        tally.latency.add(now - current_->sent);
        tally.requests++;
        current_->in_flight = false;
        free_.push_back(static_cast<uint32_t>(current_ - slots_.data()));
        if (settings_.mode != Mode::Batched)
            fill(now);
    }

    void verify(const char* data, size_t bytes, Tally& tally) {
        if (!settings_.verify)
            return;
        uint64_t end = payload_offset_ + bytes;
        for (uint64_t at = (payload_offset_ + kStampEvery - 1) / kStampEvery * kStampEvery; at + 8 <= end;
             at += kStampEvery) {
            uint64_t value;
            memcpy(&value, data + (at - payload_offset_), sizeof value);
            if (be64toh(value) != at)
                die("offset %lu holds %#lx: not what the file holds there", at, be64toh(value));
            tally.verified++;
        }
    }

    const Settings& settings_;
    bool tcp_;
    int fd_ = -1;
    uint64_t size_ = 0;
    bool structured_ = false;
    uint64_t block_ = 0;
    uint64_t random_state_ = 0;

    uint64_t quota_ = 0;
    std::vector<Slot> slots_;
    std::vector<uint32_t> free_;
    size_t slot_bytes_ = 0;
    std::unique_ptr<char[]> requests_;  // one slot after the other: the request and, for a write, its data
    std::vector<iovec> unsent_;
    size_t first_unsent_ = 0;

    std::unique_ptr<char[]> buffer_;
    size_t have_ = 0;
    Slot* current_ = nullptr;  // whose payload is coming in
    bool current_is_last_ = false;
    uint64_t payload_offset_ = 0;
    uint64_t payload_left_ = 0;
};

// Drives some of the connections from one thread.
class Worker {
public:
    void add(std::unique_ptr<Connection> connection) { connections_.push_back(std::move(connection)); }
    bool structured() const { return connections_.front()->structured(); }
    size_t connections() const { return connections_.size(); }

    // Until `seconds` have passed or, when `count` is not 0, so many requests are done. Nothing is in flight
    // afterwards.
    Tally run(double seconds, uint64_t count) {
        Tally tally, after_the_end;
        uint64_t start = now_ns();
        uint64_t deadline = count ? UINT64_MAX : start + static_cast<uint64_t>(seconds * 1e9);
        for (size_t i = 0; i < connections_.size(); i++)
            connections_[i]->begin(count ? count / connections_.size() + (i < count % connections_.size())
                                         : UINT64_MAX);
        uint64_t now = start;
        while (now < deadline && !idle())
            now = step(tally);
        tally.ns = now - start;
        for (auto& connection : connections_)
            connection->stop();
        while (!idle())
            step(after_the_end);
        return tally;
    }

private:
    bool idle() const {
        return std::ranges::all_of(connections_, [](auto& connection) { return connection->idle(); });
    }

    uint64_t step(Tally& tally) {
        if (connections_.size() == 1)
            return connections_[0]->receive(true, tally);
        if (epoll_ < 0)
            open_epoll();
        for (size_t i = 0; i < connections_.size(); i++)
            watch(i, connections_[i]->wants_to_send());
        std::array<epoll_event, 64> events;
        int n = epoll_wait(epoll_, events.data(), events.size(), kPatienceMs);
        if (n == 0)
            die("no reply within %d s", kPatienceMs / 1000);
        uint64_t now = now_ns();
        for (int i = 0; i < n; i++) {
            Connection& connection = *connections_[events[static_cast<size_t>(i)].data.u32];
            if (events[static_cast<size_t>(i)].events & EPOLLOUT)
                connection.send_due();
            if (events[static_cast<size_t>(i)].events & ~EPOLLOUT)
                now = connection.receive(false, tally);
        }
        return now;
    }

    void open_epoll() {
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        watching_to_send_.resize(connections_.size());
        for (size_t i = 0; i < connections_.size(); i++)
            control(i, EPOLL_CTL_ADD, false);
    }

    void watch(size_t i, bool to_send) {
        if (watching_to_send_[i] != to_send)
            control(i, EPOLL_CTL_MOD, to_send);
    }

    void control(size_t i, int operation, bool to_send) {
        epoll_event event{};
        event.events = to_send ? EPOLLIN | EPOLLOUT : EPOLLIN;
        event.data.u32 = static_cast<uint32_t>(i);
        if (epoll_ctl(epoll_, operation, connections_[i]->fd(), &event))
            die("epoll_ctl: %s", strerror(errno));
        watching_to_send_[i] = to_send;
    }

    std::vector<std::unique_ptr<Connection>> connections_;
    std::vector<bool> watching_to_send_;
    int epoll_ = -1;
};

// Ends the program at once when `act` fails: other threads are in the middle of theirs.
void guarded(auto act) {
    try {
        act();
    } catch (const Failure& failure) {
        print(failure);
        _exit(1);
    }
}

Tally run_all(std::vector<std::unique_ptr<Worker>>& workers, const Settings& settings, double seconds, uint64_t count) {
    std::vector<Tally> tallies(workers.size());
    std::vector<std::thread> threads;
    auto share = [&](size_t i) { return count * workers[i]->connections() / settings.connections; };
    for (size_t i = 1; i < workers.size(); i++)
        threads.emplace_back([&, i] { guarded([&] { tallies[i] = workers[i]->run(seconds, share(i)); }); });
    tallies[0] = workers[0]->run(seconds, share(0));
    for (auto& thread : threads)
        thread.join();
    for (size_t i = 1; i < tallies.size(); i++)
        tallies[0].merge(tallies[i]);
    return tallies[0];
}

double cpu_seconds() {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    auto seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void wait_for_line() {
    for (int c; (c = getchar()) != '\n' && c != EOF;) {
    }
}

constexpr const char* kUsage =
    "usage: nbd-load {--unix PATH | --tcp HOST:PORT} [options]\n"
    "  --export NAME         the export ('')\n"
    "  --connections N       connections (1)\n"
    "  --threads N           threads that drive them (1)\n"
    "  --depth N             requests in flight on each connection (64)\n"
    "  --block-size SIZE     bytes of a request (4k)\n"
    "  --rw KIND             read, write, randread or randwrite (randread)\n"
    "  --mode MODE           plain (one in flight), pipelined (each sent alone), batched (batched)\n"
    "  --duration SECONDS    how long to measure (1)\n"
    "  --count N             how many requests to measure, instead\n"
    "  --warmup SECONDS      before it (0.1)\n"
    "  --seed N              of the random offsets (1)\n"
    "  --structured          ask for structured replies\n"
    "  --verify              check the stamps in the data, and keep them when writing\n"
    "  --sync                print 'ready' and wait for a line before and after measuring";

Settings parse_options(int argc, char** argv) {
    enum {
        kUnix = 1,
        kTcp,
        kExport,
        kConnections,
        kThreads,
        kDepth,
        kBlockSize,
        kRw,
        kMode,
        kDuration,
        kCount,
        kWarmup,
        kSeed,
        kStructured,
        kVerify,
        kSync,
        kHelp
    };
    static const option kOptions[] = {{"unix", required_argument, nullptr, kUnix},
                                      {"tcp", required_argument, nullptr, kTcp},
                                      {"export", required_argument, nullptr, kExport},
                                      {"connections", required_argument, nullptr, kConnections},
                                      {"threads", required_argument, nullptr, kThreads},
                                      {"depth", required_argument, nullptr, kDepth},
                                      {"block-size", required_argument, nullptr, kBlockSize},
                                      {"rw", required_argument, nullptr, kRw},
                                      {"mode", required_argument, nullptr, kMode},
                                      {"duration", required_argument, nullptr, kDuration},
                                      {"count", required_argument, nullptr, kCount},
                                      {"warmup", required_argument, nullptr, kWarmup},
                                      {"seed", required_argument, nullptr, kSeed},
                                      {"structured", no_argument, nullptr, kStructured},
                                      {"verify", no_argument, nullptr, kVerify},
                                      {"sync", no_argument, nullptr, kSync},
                                      {"help", no_argument, nullptr, kHelp},
                                      {nullptr, 0, nullptr, 0}};
    Settings s;
    for (int c; (c = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
        switch (c) {
            case kUnix:
                s.unix_path = optarg;
                break;
            case kTcp: {
                std::string address = optarg;
                size_t colon = address.rfind(':');
                if (colon == std::string::npos)
                    die("--tcp %s: HOST:PORT is wanted", optarg);
                s.host = address.substr(0, colon);
                s.port = address.substr(colon + 1);
                break;
            }
            case kExport:
                s.export_name = optarg;
                break;
            case kConnections:
                s.connections = static_cast<unsigned>(parse_size(optarg));
                break;
            case kThreads:
                s.threads = static_cast<unsigned>(parse_size(optarg));
                break;
            case kDepth:
                s.depth = static_cast<unsigned>(parse_size(optarg));
                break;
            case kBlockSize:
                s.block_size = static_cast<uint32_t>(parse_size(optarg));
                break;
            case kRw: {
                std::string kind = optarg;
                s.random = kind.starts_with("rand");
                s.write = kind.ends_with("write");
                if (kind != (s.random ? "rand" : std::string()) + (s.write ? "write" : "read"))
                    die("--rw %s: read, write, randread or randwrite is wanted", optarg);
                break;
            }
            case kMode: {
                std::string mode = optarg;
                if (mode != "plain" && mode != "pipelined" && mode != "batched")
                    die("--mode %s: plain, pipelined or batched is wanted", optarg);
                s.mode = mode == "plain" ? Mode::Plain : mode == "pipelined" ? Mode::Pipelined : Mode::Batched;
                break;
            }
            case kDuration:
                s.duration = atof(optarg);
                break;
            case kCount:
                s.count = parse_size(optarg);
                break;
            case kWarmup:
                s.warmup = atof(optarg);
                break;
            case kSeed:
                s.seed = parse_size(optarg);
                break;
            case kStructured:
                s.structured = true;
                break;
            case kVerify:
                s.verify = true;
                break;
            case kSync:
                s.sync = true;
                break;
            case kHelp:
                puts(kUsage);
                exit(0);
            default:
                exit(1);
        }
    }
    if (optind != argc || s.unix_path.empty() == s.host.empty())
        die("%s", kUsage);
    if (s.mode == Mode::Plain)
        s.depth = 1;
    if (s.connections == 0 || s.depth == 0 || s.block_size == 0 || s.threads == 0)
        die("connections, threads, depth and block size are at least 1");
    s.threads = std::min(s.threads, s.connections);
    if (s.verify && s.block_size % kStampEvery)
        die("--verify wants blocks of a multiple of %lu bytes", kStampEvery);
    return s;
}

void run(int argc, char** argv) {
    const Settings settings = parse_options(argc, argv);
    std::vector<std::unique_ptr<Worker>> workers;
    for (unsigned i = 0; i < settings.threads; i++)
        workers.push_back(std::make_unique<Worker>());
    for (unsigned i = 0; i < settings.connections; i++)
        workers[i % settings.threads]->add(std::make_unique<Connection>(settings, i));

    if (settings.warmup > 0)
        run_all(workers, settings, settings.warmup, 0);
    if (settings.sync) {
        puts("ready");
        fflush(stdout);
        wait_for_line();
    }
    double cpu = cpu_seconds();
    Tally tally = run_all(workers, settings, settings.duration, settings.count);
    cpu = cpu_seconds() - cpu;

    double seconds = static_cast<double>(tally.ns) / 1e9;
    auto requests = static_cast<double>(tally.requests);
    auto us = [&](double p) { return static_cast<double>(tally.latency.percentile(p)) / 1e3; };
    printf(
        "{\"requests\": %lu, \"seconds\": %.6f, \"iops\": %.1f, \"mb_per_s\": %.2f, \"p50_us\": %.2f, "
        "\"p99_us\": %.2f, \"max_us\": %.2f, \"cpu_seconds\": %.6f, \"verified\": %lu, \"replies\": \"%s\"}\n",
        tally.requests, seconds, requests / seconds, requests * settings.block_size / 1e6 / seconds, us(50), us(99),
        static_cast<double>(tally.latency.max()) / 1e3, cpu, tally.verified,
        workers[0]->structured() ? "structured" : "simple");
    fflush(stdout);
    if (settings.sync)
        wait_for_line();
}

}  // namespace

int main(int argc, char** argv) {
    guarded([&] { run(argc, argv); });
    return 0;
}
