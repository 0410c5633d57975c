#include "block/qcow2/compression.h"

#include <zlib.h>
#include <zstd.h>

namespace ashlar::qcow2 {

namespace {

// Other programs read with a window of this size.
constexpr int kDeflateWindowBits = 12;

Bytef* bytes(const std::byte* at) {
    return reinterpret_cast<Bytef*>(const_cast<std::byte*>(at));
}

bool inflate_all(std::span<const std::byte> in, std::span<std::byte> out) {
    z_stream stream{};
    stream.next_in = bytes(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = bytes(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return false;
    int ret = inflate(&stream, Z_FINISH);
    bool done = stream.avail_out == 0 && (ret == Z_STREAM_END || ret == Z_BUF_ERROR);
    inflateEnd(&stream);
    return done;
}

size_t deflate_all(std::span<const std::byte> in, std::span<std::byte> out) {
    z_stream stream{};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -kDeflateWindowBits, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    stream.next_in = bytes(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = bytes(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    int ret = deflate(&stream, Z_FINISH);
    size_t size = ret == Z_STREAM_END ? out.size() - stream.avail_out : 0;
    deflateEnd(&stream);
    return size;
}

bool zstd_decompress_all(std::span<const std::byte> in, std::span<std::byte> out) {
    ZSTD_DCtx* context = ZSTD_createDCtx();
    if (!context)
        return false;
    // The frame ends somewhere in the last sector, behind which there may be anything.
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    while (output.pos < output.size) {
        size_t in_before = input.pos, out_before = output.pos;
        size_t ret = ZSTD_decompressStream(context, &output, &input);
        if (ZSTD_isError(ret) || (input.pos == in_before && output.pos == out_before))
            break;
    }
    ZSTD_freeDCtx(context);
    return output.pos == output.size;
}

}  // namespace

bool decompress(Compression type, std::span<const std::byte> in, std::span<std::byte> out) {
    return type == Compression::Zlib ? inflate_all(in, out) : zstd_decompress_all(in, out);
}

size_t compress(Compression type, std::span<const std::byte> in, std::span<std::byte> out) {
    if (type == Compression::Zlib)
        return deflate_all(in, out);
    size_t size = ZSTD_compress(out.data(), out.size(), in.data(), in.size(), ZSTD_CLEVEL_DEFAULT);
    return ZSTD_isError(size) ? 0 : size;
}

}  // namespace ashlar::qcow2
