// The few numbers of the NBD protocol that the benchmark's two programs need, and blocking socket helpers.
//
// Deliberately not our nbd library: what measures a server must not share code with it. Everything here throws a
// Failure when it fails, which ends the connection of the server and the program of the client. Names and values are
// those of the NBD specification (doc/proto.md).
#pragma once

#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

namespace bench {

constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr uint64_t kOptionReplyMagic = 0x3e889045565a9;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;

constexpr uint16_t kFlagFixedNewstyle = 1 << 0;
constexpr uint16_t kFlagNoZeroes = 1 << 1;

enum Option : uint32_t { kOptExportName = 1, kOptAbort = 2, kOptInfo = 6, kOptGo = 7, kOptStructuredReply = 8 };
enum OptionReply : uint32_t { kRepAck = 1, kRepInfo = 3, kRepErrUnsup = 0x80000001 };
constexpr uint16_t kInfoExport = 0;

constexpr uint16_t kTransHasFlags = 1 << 0;
constexpr uint16_t kTransSendFlush = 1 << 2;
constexpr uint16_t kTransSendFua = 1 << 3;
constexpr uint16_t kTransMultiConn = 1 << 8;

enum Command : uint16_t { kCmdRead = 0, kCmdWrite = 1, kCmdDisc = 2, kCmdFlush = 3 };

enum Chunk : uint16_t { kChunkNone = 0, kChunkData = 1, kChunkHole = 2, kChunkErrorBit = 1 << 15 };
constexpr uint16_t kChunkDone = 1 << 0;

struct [[gnu::packed]] Request {
    uint32_t magic;
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t offset;
    uint32_t length;
};
static_assert(sizeof(Request) == 28);

struct [[gnu::packed]] SimpleReply {
    uint32_t magic;
    uint32_t error;
    uint64_t cookie;
};
static_assert(sizeof(SimpleReply) == 16);

struct [[gnu::packed]] ChunkHeader {
    uint32_t magic;
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint32_t length;
};
static_assert(sizeof(ChunkHeader) == 20);

using Failure = std::runtime_error;

[[noreturn, gnu::format(printf, 1, 2)]] inline void die(const char* format, ...) {
    char message[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    throw Failure(message);
}

inline void print(const Failure& failure) {
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, failure.what());
}

inline void recv_exactly(int fd, void* to, size_t bytes) {
    for (auto p = static_cast<char*>(to); bytes > 0;) {
        ssize_t n = recv(fd, p, bytes, 0);
        if (n == 0)
            die("the peer closed the connection in the handshake");
        if (n < 0 && errno != EINTR)
            die("recv: %s", strerror(errno));
        if (n > 0) {
            p += n;
            bytes -= static_cast<size_t>(n);
        }
    }
}

inline void send_exactly(int fd, const void* from, size_t bytes) {
    for (auto p = static_cast<const char*>(from); bytes > 0;) {
        ssize_t n = send(fd, p, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            die("send: %s", strerror(errno));
        if (n > 0) {
            p += n;
            bytes -= static_cast<size_t>(n);
        }
    }
}

inline void send_be16(int fd, uint16_t v) {
    v = htobe16(v);
    send_exactly(fd, &v, sizeof v);
}

inline void send_be32(int fd, uint32_t v) {
    v = htobe32(v);
    send_exactly(fd, &v, sizeof v);
}

inline void send_be64(int fd, uint64_t v) {
    v = htobe64(v);
    send_exactly(fd, &v, sizeof v);
}

inline uint16_t recv_be16(int fd) {
    uint16_t v;
    recv_exactly(fd, &v, sizeof v);
    return be16toh(v);
}

inline uint32_t recv_be32(int fd) {
    uint32_t v;
    recv_exactly(fd, &v, sizeof v);
    return be32toh(v);
}

inline uint64_t recv_be64(int fd) {
    uint64_t v;
    recv_exactly(fd, &v, sizeof v);
    return be64toh(v);
}

// A size as the tools take it: 4096, 4k, 256k, 1G.
inline uint64_t parse_size(const char* text) {
    char* end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    int shift = 0;
    switch (*end) {
        case 'k':
        case 'K':
            shift = 10;
            end++;
            break;
        case 'm':
        case 'M':
            shift = 20;
            end++;
            break;
        case 'g':
        case 'G':
            shift = 30;
            end++;
            break;
    }
    if (errno || end == text || *end || value > (UINT64_MAX >> shift))
        die("'%s' is not a size", text);
    return value << shift;
}

inline sockaddr_un unix_address(const std::string& path) {
    sockaddr_un addr{};
    addr.sun_family = AF_UNIX;
    if (path.size() >= sizeof addr.sun_path)
        die("%s: the path of a Unix socket has at most %zu bytes", path.c_str(), sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path.c_str(), path.size() + 1);
    return addr;
}

inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace bench
