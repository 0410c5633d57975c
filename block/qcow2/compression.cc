#include "block/qcow2/compression.h"

#include <zlib.h>
#include <zstd.h>

#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace ashlar::qcow2 {

namespace {

// Other programs read with a window of this size.
constexpr int kDeflateWindowBits = 12;

Bytef* bytes(const std::byte* at) {
    return reinterpret_cast<Bytef*>(const_cast<std::byte*>(at));
}

// Compressors that are not in use, for the next ones: each is a quarter of a megabyte or more, which the system would
// have to clear again. No more than can be at work at a time.
template <class T>
class Spare {
public:
    std::unique_ptr<T> take() {
        std::lock_guard guard(lock_);
        if (spare_.empty())
            return nullptr;
        std::unique_ptr<T> one = std::move(spare_.back());
        spare_.pop_back();
        return one;
    }
    void give(std::unique_ptr<T> one) {
        static const unsigned most = std::thread::hardware_concurrency();  // each call reads a file of /sys
        std::lock_guard guard(lock_);
        if (spare_.size() < most)
            spare_.push_back(std::move(one));
    }

private:
    std::mutex lock_;
    std::vector<std::unique_ptr<T>> spare_;
};

struct Deflater {
    z_stream stream{};
    bool made =
        deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -kDeflateWindowBits, 9, Z_DEFAULT_STRATEGY) == Z_OK;

    Deflater() = default;
    Deflater(const Deflater&) = delete;
    ~Deflater() {
        if (made)
            deflateEnd(&stream);
    }
};

struct ZstdCompressor {
    ZSTD_CCtx* context = ZSTD_createCCtx();

    ZstdCompressor() = default;
    ZstdCompressor(const ZstdCompressor&) = delete;
    ~ZstdCompressor() { ZSTD_freeCCtx(context); }
};

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
    static Spare<Deflater> spare;
    std::unique_ptr<Deflater> deflater = spare.take();
    if (!deflater)
        deflater = std::make_unique<Deflater>();
    if (!deflater->made)
        return 0;
    z_stream& stream = deflater->stream;
    stream.next_in = bytes(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = bytes(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    int ret = deflate(&stream, Z_FINISH);
    size_t size = ret == Z_STREAM_END ? out.size() - stream.avail_out : 0;
    if (deflateReset(&stream) == Z_OK)
        spare.give(std::move(deflater));
    return size;
}

size_t zstd_compress_all(std::span<const std::byte> in, std::span<std::byte> out) {
    static Spare<ZstdCompressor> spare;
    std::unique_ptr<ZstdCompressor> compressor = spare.take();
    if (!compressor)
        compressor = std::make_unique<ZstdCompressor>();
    if (!compressor->context)
        return 0;
    size_t size =
        ZSTD_compressCCtx(compressor->context, out.data(), out.size(), in.data(), in.size(), ZSTD_CLEVEL_DEFAULT);
    spare.give(std::move(compressor));
    return ZSTD_isError(size) ? 0 : size;
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
    return type == Compression::Zlib ? deflate_all(in, out) : zstd_compress_all(in, out);
}

}  // namespace ashlar::qcow2
