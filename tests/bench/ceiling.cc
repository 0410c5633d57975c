// ceiling: the least an NBD server can do, for scale.
//
// One thread per connection, the file mapped into memory for reading, one pwrite for each write (a store to the map
// would fault on every page), one recv and one writev per batch of requests. There is no event loop, no block layer, no
// error handling beyond hanging up, no option but the one that GO needs, and no bound on what a client may ask: not a
// server to use, but the mark that the ones to use are measured against.
//
//   ceiling {--unix PATH | --tcp PORT} FILE
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include "wire.h"

using namespace bench;

namespace {

struct Disk {
    int fd;
    char* data;
    uint64_t size;
};

constexpr uint16_t kTransFlags = kTransHasFlags | kTransSendFlush | kTransSendFua | kTransMultiConn;

void send_option_reply(int fd, uint32_t option, uint32_t type, uint32_t length) {
    send_be64(fd, kOptionReplyMagic);
    send_be32(fd, option);
    send_be32(fd, type);
    send_be32(fd, length);
}

// False when the client went away without asking for data.
bool handshake(int fd, const Disk& disk) {
    send_be64(fd, kInitMagic);
    send_be64(fd, kOptionMagic);
    send_be16(fd, kFlagFixedNewstyle | kFlagNoZeroes);
    char probe;
    if (recv(fd, &probe, 1, MSG_PEEK) == 0)
        return false;  // somebody who waits for us to listen
    bool no_zeroes = recv_be32(fd) & kFlagNoZeroes;
    for (;;) {
        if (recv_be64(fd) != kOptionMagic)
            die("an option without its magic");
        uint32_t option = recv_be32(fd);
        uint32_t length = recv_be32(fd);
        if (length > 8192)
            die("an option of %u bytes", length);
        std::vector<char> payload(length);
        recv_exactly(fd, payload.data(), length);
        switch (option) {
            case kOptExportName: {
                send_be64(fd, disk.size);
                send_be16(fd, kTransFlags);
                static const char zeroes[124] = {};
                if (!no_zeroes)
                    send_exactly(fd, zeroes, sizeof zeroes);
                return true;
            }
            case kOptInfo:
            case kOptGo:
                send_option_reply(fd, option, kRepInfo, 12);
                send_be16(fd, kInfoExport);
                send_be64(fd, disk.size);
                send_be16(fd, kTransFlags);
                send_option_reply(fd, option, kRepAck, 0);
                if (option == kOptGo)
                    return true;
                break;
            case kOptAbort:
                send_option_reply(fd, option, kRepAck, 0);
                return false;
            default:
                send_option_reply(fd, option, kRepErrUnsup, 0);
        }
    }
}

class Batch {
public:
    explicit Batch(int fd) : fd_(fd) { iov_.reserve(2 * kReplies); }

    void reply(uint64_t cookie, char* data, size_t bytes) {
        SimpleReply& header = headers_[count_++];
        header = {.magic = htobe32(kSimpleReplyMagic), .error = 0, .cookie = cookie};
        iov_.push_back({&header, sizeof header});
        if (bytes)
            iov_.push_back({data, bytes});
        if (count_ == kReplies)
            flush();
    }

    void flush() {
        size_t first = 0;
        while (first < iov_.size()) {
            ssize_t n = writev(fd_, &iov_[first], static_cast<int>(iov_.size() - first));
            if (n < 0)
                die("writev: %s", strerror(errno));
            auto done = static_cast<size_t>(n);
            while (first < iov_.size() && done >= iov_[first].iov_len)
                done -= iov_[first++].iov_len;
            if (done) {
                iov_[first].iov_base = static_cast<char*>(iov_[first].iov_base) + done;
                iov_[first].iov_len -= done;
            }
        }
        iov_.clear();
        count_ = 0;
    }

private:
    static constexpr size_t kReplies = 512;  // two vectors each: IOV_MAX
    int fd_;
    size_t count_ = 0;
    SimpleReply headers_[kReplies];
    std::vector<iovec> iov_;
};

void transmission(int fd, const Disk& disk) {
    constexpr size_t kCapacity = 1 << 20;
    auto buffer = std::make_unique<char[]>(kCapacity);
    auto batch = std::make_unique<Batch>(fd);
    size_t have = 0;
    for (bool open = true; open;) {
        ssize_t n = recv(fd, &buffer[have], kCapacity - have, 0);
        if (n <= 0)
            break;
        have += static_cast<size_t>(n);
        size_t at = 0;
        while (open && have - at >= sizeof(Request)) {
            Request request;
            memcpy(&request, &buffer[at], sizeof request);
            at += sizeof request;
            uint64_t offset = be64toh(request.offset);
            uint32_t length = be32toh(request.length);
            uint16_t type = be16toh(request.type);
            if (be32toh(request.magic) != kRequestMagic)
                die("a request without its magic");
            if (type <= kCmdWrite && (offset > disk.size || length > disk.size - offset))
                die("a request past the end");
            if (type == kCmdRead) {
                batch->reply(request.cookie, disk.data + offset, length);
            } else if (type == kCmdWrite) {
                if (length > kCapacity - sizeof request)
                    die("a write of %u bytes", length);
                if (have - at < length) {
                    at -= sizeof request;
                    break;
                }
                if (pwrite(disk.fd, &buffer[at], length, static_cast<off_t>(offset)) != length)
                    die("pwrite: %s", strerror(errno));
                at += length;
                batch->reply(request.cookie, nullptr, 0);
            } else if (type == kCmdDisc) {
                open = false;
            } else {
                batch->reply(request.cookie, nullptr, 0);
            }
        }
        memmove(&buffer[0], &buffer[at], have - at);
        have -= at;
        batch->flush();
    }
}

void serve(int fd, Disk disk) {
    try {
        if (handshake(fd, disk))
            transmission(fd, disk);
    } catch (const Failure& failure) {
        print(failure);
    }
    close(fd);
}

int listen_on(const std::string& path, int port) {
    int fd;
    if (!path.empty()) {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un addr = unix_address(path);
        if (bind(fd, reinterpret_cast<sockaddr*>(&addr), sizeof addr))
            die("%s: bind: %s", path.c_str(), strerror(errno));
    } else {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int on = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in addr{};
        addr.sin_family = AF_INET;
        addr.sin_port = htons(static_cast<uint16_t>(port));
        addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(fd, reinterpret_cast<sockaddr*>(&addr), sizeof addr))
            die("port %d: bind: %s", port, strerror(errno));
    }
    if (listen(fd, 128))
        die("listen: %s", strerror(errno));
    return fd;
}

int run(int argc, char** argv) {
    static const option kOptions[] = {
        {"unix", required_argument, nullptr, 'u'}, {"tcp", required_argument, nullptr, 't'}, {nullptr, 0, nullptr, 0}};
    std::string path;
    int port = 0;
    for (int c; (c = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
        switch (c) {
            case 'u':
                path = optarg;
                break;
            case 't':
                port = atoi(optarg);
                break;
            default:
                return 1;
        }
    }
    if (optind + 1 != argc || path.empty() == (port == 0))
        die("usage: ceiling {--unix PATH | --tcp PORT} FILE");

    const char* file = argv[optind];
    int fd = open(file, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        die("%s: %s", file, strerror(errno));
    Disk disk{.fd = fd, .data = nullptr, .size = static_cast<uint64_t>(st.st_size)};
    void* map = mmap(nullptr, disk.size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (map == MAP_FAILED)
        die("%s: mmap: %s", file, strerror(errno));
    disk.data = static_cast<char*>(map);

    for (int listener = listen_on(path, port);;) {
        int conn = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (conn < 0)
            die("accept: %s", strerror(errno));
        no_delay(conn);
        std::thread(serve, conn, disk).detach();
    }
}

}  // namespace

int main(int argc, char** argv) {
    signal(SIGPIPE, SIG_IGN);
    try {
        return run(argc, argv);
    } catch (const Failure& failure) {
        print(failure);
        return 1;
    }
}
