// ashlar-img map: where the contents of an image are.
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "util/json.h"

#include <fmt/compile.h>

#include <algorithm>
#include <cstdio>
#include <optional>

namespace ashlar::img {

namespace {

// A stretch that is alike all over.
struct Entry {
    int64_t start = 0, length = 0;
    unsigned depth = 0;  // of the layer that has it; 0: the top
    bool present = false, zero = false, data = false, compressed = false;
    std::optional<int64_t> offset;  // in `file`
    const BlockDriverState* file = nullptr;

    // Whether `next`, which begins where this one ends, goes on like it.
    bool continues_in(const Entry& next) const {
        return depth == next.depth && present == next.present && zero == next.zero && data == next.data &&
               compressed == next.compressed && file == next.file && offset.has_value() == next.offset.has_value() &&
               (!offset || *offset + length == *next.offset);
    }
};

// Where a node's data are: the file that the offsets of its status are in.
const BlockDriverState* storage_of(const BlockDriverState& node) {
    if (BdrvChild* data = node.find_child("data-file"))
        return &data->node();
    BdrvChild* file = node.primary_child();
    return file ? &file->node() : &node;
}

class Map final : public Command {
public:
    Map() { image_.flags.read_only = true; }

    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        add_output_option(line, output_);
        line.add('s', "start-offset", "OFFSET", "where to begin", bytes_option("start offset", start_));
        line.add('l', "max-length", "LENGTH", "how much to show", bytes_option("max length", length_));
    }

    Result<void> take(std::vector<std::string> arguments) override {
        return take_one_name(std::move(arguments), filename_);
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        auto opened = co_await co_open(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        Result<int> status = co_await co_map(**opened);
        co_return co_await co_close(std::move(*opened), std::move(status));
    }

private:
    Task<Result<int>> co_map(BlockBackend& image) {
        const int64_t total = image.length();
        if (total < 0)
            co_return fail("Failed to get size for '{}'", filename_);
        const int64_t end = length_ >= 0 && length_ < total - std::min(start_, total) ? start_ + length_ : total;
        if (output_ == OutputFormat::Human)
            fmt::format_to(fmt::appender(out_), "{:<16}{:<16}{:<16}{}\n", "Offset", "Length", "Mapped to", "File");
        else
            out_.push_back('[');

        Entry current{.start = start_};
        for (int64_t at = start_; at < end;) {
            auto next = co_await co_entry(*image.root(), at, end - at);
            if (!next) {
                flush();
                co_return std::unexpected(std::move(next.error()));
            }
            at += next->length;
            if (current.length > 0 && current.continues_in(*next)) {
                current.length += next->length;
            } else {
                if (current.length > 0)
                    if (auto shown = show(current, false); !shown)
                        co_return std::unexpected(std::move(shown.error()));
                current = *next;
            }
        }
        if (auto shown = show(current, true); !shown)
            co_return std::unexpected(std::move(shown.error()));
        flush();
        co_return 0;
    }

    // From the first layer that says something about it.
    static Task<Result<Entry>> co_entry(const BlockDriverState& top, int64_t offset, int64_t bytes) {
        Entry entry{.start = offset};
        for (auto* layer = const_cast<BlockDriverState*>(&top);; layer = &layer->cow_child()->node()) {
            while (layer->type().is_filter && layer->primary_child())
                layer = &layer->primary_child()->node();
            if (layer != &top && offset >= layer->length()) {  // the layer above is longer: zeroes
                entry.zero = true;
                entry.length = bytes;
                --entry.depth;
                co_return entry;
            }
            const BlockStatus status = co_await layer->co_block_status(true, offset, bytes);
            if (status.ret < 0)
                co_return fail_errno(-status.ret, "Failed to read image metadata");
            bytes = status.bytes;
            const bool decided = status.has(BlockStatus::Allocated) || status.has(BlockStatus::Zero);
            if (!decided && layer->cow_child()) {
                ++entry.depth;
                continue;
            }
            entry.length = bytes;
            entry.present = status.has(BlockStatus::Allocated);
            entry.zero = status.has(BlockStatus::Zero);
            entry.data = status.has(BlockStatus::Data);
            entry.compressed = status.has(BlockStatus::Compressed);
            if (status.has(BlockStatus::OffsetValid)) {
                entry.offset = status.offset;
                entry.file = storage_of(*layer);
            }
            co_return entry;
        }
    }

    Result<void> show(const Entry& entry, bool last) {
        if (output_ == OutputFormat::Json) {
            auto out = fmt::appender(out_);
            fmt::format_to(out,
                           FMT_COMPILE("{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, "
                                       "\"zero\": {}, \"data\": {}"),
                           entry.start, entry.length, entry.depth, entry.present, entry.zero, entry.data);
            if (entry.offset)
                fmt::format_to(out, FMT_COMPILE(", \"offset\": {}"), *entry.offset);
            fmt::format_to(out, FMT_COMPILE("}}{}"), last ? "]\n" : ",\n");
        } else if (entry.data && !entry.zero) {
            if (!entry.offset || entry.compressed) {
                flush();
                return fail("File contains external, encrypted or compressed clusters.");
            }
            fmt::format_to(fmt::appender(out_), "{:<16}{:<16}{:<16}{}\n", hex(entry.start), hex(entry.length),
                           hex(*entry.offset), entry.file->filename());
        }
        if (out_.size() > kBatch)
            flush();
        return {};
    }

    static std::string hex(int64_t value) { return value == 0 ? "0" : fmt::format("{:#x}", value); }

    void flush() {
        fwrite(out_.data(), 1, out_.size(), stdout);
        out_.clear();
    }

    static constexpr size_t kBatch = 64 << 10;

    ImageArguments image_;
    OutputFormat output_ = OutputFormat::Human;
    std::string filename_;
    int64_t start_ = 0, length_ = -1;
    fmt::memory_buffer out_;
};

}  // namespace

const CommandType kMap{
    .name = "map",
    .syntax =
        "[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] "
        "[--output=ofmt] [-U] filename",
    .make = make_command<Map>,
};

}  // namespace ashlar::img
