// Making new images, and saying beforehand how large one would be.
//
// A format writes its metadata into a file that the protocol of the file name makes. Both take their options from one
// object, that of `qemu-img create -o`: first the format those that it knows, then the protocol, and what is left is an
// error before anything has been made. Main context.
#pragma once

#include "block/block_backend.h"
#include "block/block_driver.h"
#include "util/enum_names.h"
#include "util/json.h"
#include "util/options.h"

#include <memory>
#include <optional>
#include <string>

namespace ashlar {

constexpr auto enum_names(PreallocMode) {
    return std::to_array<EnumName<PreallocMode>>({
        {PreallocMode::Off, "off"},
        {PreallocMode::Metadata, "metadata"},
        {PreallocMode::Falloc, "falloc"},
        {PreallocMode::Full, "full"},
    });
}

// The options of what exists already and only takes an image: those of a protocol that cannot make files.
struct ExistingFileOptions {
    PreallocMode preallocation = PreallocMode::Off;

    static const OptionSet<ExistingFileOptions>& options();
};

// What is to be made, on its way down from the format to the protocol.
class CreateContext {
public:
    CreateContext(BlockGraph& graph, std::string filename, Json options)
        : graph_(graph), filename_(std::move(filename)), options_(std::move(options)) {}

    BlockGraph& graph() const { return graph_; }
    const std::string& filename() const { return filename_; }

    // Formats: those of the given options that T knows; a protocol gets the others.
    template <class T>
    Result<T> take() {
        return T::options().take(options_, Typing::Lenient);
    }
    // Protocols: what is left must be known to T.
    template <class T>
    Result<T> parse() const {
        return T::options().parse(options_, Typing::Lenient);
    }

    // Formats, once: makes the file, whose bytes read as zeroes, or takes one that exists where the protocol cannot
    // make any, whose first sector does; opens it for writing and resizing, with nobody beside. The backend is closed
    // by co_create_image().
    [[nodiscard]] Task<Result<BlockBackend*>> co_create_file(int64_t size);

private:
    friend Task<Result<void>> co_create_image(BlockGraph& graph, const DriverType& type, std::string filename,
                                              Json options);
    [[nodiscard]] Task<Result<void>> co_open_existing(const DriverType& protocol, int64_t size);
    [[nodiscard]] Task<Result<void>> co_open();

    BlockGraph& graph_;
    std::string filename_;
    Json options_;
    std::unique_ptr<BlockBackend> file_;
    const DriverType* made_by_ = nullptr;  // the protocol
};

// Makes an image of a format or, with a protocol's type, a bare file. `options`: an object of strings or typed values.
// On failure there is none: a file that was made for it is removed.
[[nodiscard]] Task<Result<void>> co_create_image(BlockGraph& graph, const DriverType& type, std::string filename,
                                                 Json options);

// How large the file of an image would be.
struct MeasuredSize {
    uint64_t required = 0;            // bytes, for the contents as they are
    uint64_t fully_allocated = 0;     // bytes, when all has been written
    std::optional<uint64_t> bitmaps;  // bytes for the source's persistent bitmaps, if it can have any
};

// The options of a new image, its `size` among them, and the image whose contents it would have, or null.
class MeasureContext {
public:
    MeasureContext(BlockBackend* source, Json options) : source_(source), options_(std::move(options)) {}

    BlockBackend* source() const { return source_; }
    template <class T>
    Result<T> take() {
        return T::options().take(options_, Typing::Lenient);
    }

private:
    friend Task<Result<MeasuredSize>> co_measure_image(BlockGraph& graph, BlockBackend* source, const DriverType& type,
                                                       Json options);
    BlockBackend* source_;
    Json options_;
};

// `options` as for co_create_image() into a file; with a source the size is the source's.
[[nodiscard]] Task<Result<MeasuredSize>> co_measure_image(BlockGraph& graph, BlockBackend* source,
                                                          const DriverType& type, Json options);

}  // namespace ashlar
