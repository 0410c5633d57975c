// The constants of the NBD protocol, named as in its specification (proto.md, "Values").
//
// The functions over bytes are in handshake.h, request.h and reply.h: parsing (bytes to a value or an error),
// validation (a value against an export) and building (a value to bytes) are pure and separate. All integers on the
// wire are big-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ashlar::nbd {

using Bytes = std::span<const std::byte>;

inline constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454F5054;  // "IHAVEOPT"
inline constexpr uint64_t kOldstyleMagic = 0x00420281861253;
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
inline constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;

inline constexpr uint16_t kDefaultPort = 10809;
inline constexpr size_t kMaxString = 4096;  // bytes in a name, a query, a message

// Payloads of up to 32 MiB are what every client may send; we advertise no more.
inline constexpr uint32_t kMaxPayload = 32u << 20;

// Handshake flags (server) and client flags.
inline constexpr uint16_t kFlagFixedNewstyle = 1 << 0;
inline constexpr uint16_t kFlagNoZeroes = 1 << 1;
inline constexpr uint32_t kClientFixedNewstyle = 1 << 0;
inline constexpr uint32_t kClientNoZeroes = 1 << 1;

// Transmission flags.
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnly = 1 << 1;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kRotational = 1 << 4;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;
inline constexpr uint16_t kSendResize = 1 << 9;
inline constexpr uint16_t kSendCache = 1 << 10;
inline constexpr uint16_t kSendFastZero = 1 << 11;
inline constexpr uint16_t kBlockStatusPayload = 1 << 12;

// Options.
enum Option : uint32_t {
    kOptExportName = 1,
    kOptAbort = 2,
    kOptList = 3,
    kOptStartTls = 5,
    kOptInfo = 6,
    kOptGo = 7,
    kOptStructuredReply = 8,
    kOptListMetaContext = 9,
    kOptSetMetaContext = 10,
    kOptExtendedHeaders = 11,
};

// Option reply types; errors have the top bit.
enum OptionReply : uint32_t {
    kRepAck = 1,
    kRepServer = 2,
    kRepInfo = 3,
    kRepMetaContext = 4,
    kRepErrorBit = 1u << 31,
    kRepErrUnsup = kRepErrorBit + 1,
    kRepErrPolicy = kRepErrorBit + 2,
    kRepErrInvalid = kRepErrorBit + 3,
    kRepErrPlatform = kRepErrorBit + 4,
    kRepErrTlsReqd = kRepErrorBit + 5,
    kRepErrUnknown = kRepErrorBit + 6,
    kRepErrShutdown = kRepErrorBit + 7,
    kRepErrBlockSizeReqd = kRepErrorBit + 8,
    kRepErrTooBig = kRepErrorBit + 9,
    kRepErrExtHeaderReqd = kRepErrorBit + 10,
};

enum Info : uint16_t { kInfoExport = 0, kInfoName = 1, kInfoDescription = 2, kInfoBlockSize = 3 };

enum Command : uint16_t {
    kCmdRead = 0,
    kCmdWrite = 1,
    kCmdDisc = 2,
    kCmdFlush = 3,
    kCmdTrim = 4,
    kCmdCache = 5,
    kCmdWriteZeroes = 6,
    kCmdBlockStatus = 7,
};

// Command flags.
inline constexpr uint16_t kCmdFlagFua = 1 << 0;
inline constexpr uint16_t kCmdFlagNoHole = 1 << 1;
inline constexpr uint16_t kCmdFlagDf = 1 << 2;
inline constexpr uint16_t kCmdFlagReqOne = 1 << 3;
inline constexpr uint16_t kCmdFlagFastZero = 1 << 4;
inline constexpr uint16_t kCmdFlagPayloadLen = 1 << 5;

// Chunks of structured and extended replies.
inline constexpr uint16_t kReplyFlagDone = 1 << 0;
enum Chunk : uint16_t {
    kChunkNone = 0,
    kChunkOffsetData = 1,
    kChunkOffsetHole = 2,
    kChunkBlockStatus = 5,
    kChunkBlockStatusExt = 6,
    kChunkErrorBit = 1 << 15,
    kChunkError = kChunkErrorBit + 1,
    kChunkErrorOffset = kChunkErrorBit + 2,
};

// Error values.
enum ErrorValue : uint32_t {
    kSuccess = 0,
    kEPerm = 1,
    kEIo = 5,
    kENoMem = 12,
    kEInval = 22,
    kENoSpc = 28,
    kEOverflow = 75,
    kENotSup = 95,
    kEShutdown = 108,
};

// base:allocation.
inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;
inline constexpr uint32_t kStateDirty = 1 << 0;  // of qemu:dirty-bitmap:NAME

// What the two sides agreed on for the transmission phase.
enum class HeaderStyle : uint8_t { Simple, Structured, Extended };

}  // namespace ashlar::nbd
