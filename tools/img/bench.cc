// ashlar-img bench: how long a number of requests takes.
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "util/buffer_pool.h"
#include "util/size.h"
#include "util/task_scope.h"
#include "util/thread_pool.h"
#include "util/timer.h"

#include <fmt/core.h>

#include <cstring>

namespace ashlar::img {

namespace {

class Bench final : public Command {
public:
    Bench() { image_.flags.read_only = true; }

    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        line.add('t', "cache", "MODE", "cache mode of the image", [this](std::string_view mode) -> Result<void> {
            if (!image_.set_cache(mode))
                return fail("Invalid cache mode");
            return {};
        });
        line.add('i', "aio", "MODE", "AIO mode: threads, native or io_uring",
                 [this](std::string_view mode) { return image_.set_aio(mode, "Invalid aio option: {}"); });
        line.add('n', "native", "", "short for -i native",
                 [this](std::string_view) { return image_.set_aio("native"); });
        line.add('c', "count", "N", "so many requests (default: 75000)", number("request count", count_, 0));
        line.add('d', "depth", "N", "so many at a time (default: 64)", number("queue depth", depth_, 1));
        line.add('o', "offset", "OFFSET", "of the first request", bytes_option("offset", offset_));
        line.add('s', "buffer-size", "SIZE", "of each request (default: 4k)",
                 bytes_option("buffer size", size_, 0, 1 << 30));
        line.add('S', "step-size", "SIZE", "from one request to the next (default: its size)",
                 bytes_option("step_size", step_, 0, 1 << 30));
        line.add('w', "write", "", "write, not read", [this](std::string_view) {
            image_.flags.read_only = false;
            return Result<void>();
        });
        line.add(0, "pattern", "BYTE", "what to write (default: 0)", [this](std::string_view text) -> Result<void> {
            auto byte = parse_uint64(text);
            if (!byte || *byte > 0xff)
                return fail("Invalid pattern byte specified");
            pattern_ = static_cast<int>(*byte);
            return {};
        });
        line.add(0, "flush-interval", "N", "flush after so many requests",
                 number("flush interval", flush_interval_, 0));
        line.add_flag(0, "no-drain", "do not wait for other requests before a flush", no_drain_);
        add_quiet_option(line, quiet_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (auto taken = take_one_name(std::move(arguments), filename_); !taken)
            return taken;
        if (image_.flags.read_only && flush_interval_)
            return fail("--flush-interval is only available in write tests");
        if (flush_interval_ && flush_interval_ < depth_)
            return fail("Flush interval can't be smaller than depth");
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        auto opened = co_await co_open(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        Result<int> status = co_await co_bench(**opened);
        co_return co_await co_close(std::move(*opened), std::move(status));
    }

private:
    static CommandLine::Handler number(std::string_view what, unsigned& out, unsigned min) {
        return [what, &out, min](std::string_view text) -> Result<void> {
            auto value = parse_uint64(text);
            if (!value || *value < min || *value > INT32_MAX)
                return fail("Invalid {} specified", what);
            out = static_cast<unsigned>(*value);
            return {};
        };
    }

    Task<Result<int>> co_bench(BlockBackend& image) {
        const int64_t length = image.length();
        if (length < 0)
            co_return fail_errno(static_cast<int>(-length), "Could not get the size of '{}'", filename_);
        const int64_t step = step_ > 0 ? step_ : size_;
        if (!quiet_) {
            fmt::print("Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size {})\n",
                       count_, writes() ? "write" : "read", size_, depth_, offset_, step);
            if (flush_interval_)
                fmt::print("Sending flush every {} requests\n", flush_interval_);
            fflush(stdout);
        }
        next_offset_ = offset_;
        step_ = step;
        last_start_ = std::max<int64_t>(length - size_, 0);
        set_own_work(OwnWork::None);  // several requests at a time
        const int64_t began = now_ns();
        // Between two flushes that wait for what was before them, or all at once.
        const unsigned batch = flush_interval_ && !no_drain_ ? flush_interval_ : count_;
        for (unsigned left = count_; left > 0 && error_ == 0;) {
            to_start_ = std::min(left, batch);
            left -= to_start_;
            TaskScope workers;
            std::vector<Buffer> buffers;
            for (unsigned i = 0; i < std::min(depth_, to_start_); ++i)
                buffers.emplace_back(static_cast<size_t>(std::max<int64_t>(size_, 1)));
            for (Buffer& buffer : buffers) {
                if (writes())
                    memset(buffer.data(), pattern_, buffer.size());
                workers.spawn(co_worker(image, buffer.data()));
            }
            co_await workers.join();
            if (batch == flush_interval_ && error_ == 0)
                note(co_await image.co_flush());
        }
        if (error_ < 0)
            co_return fail_errno(-error_, "Failed request");
        if (!quiet_)
            fmt::print("Run completed in {:.3f} seconds.\n", static_cast<double>(now_ns() - began) / 1e9);
        co_return 0;
    }

    bool writes() const { return !image_.flags.read_only; }
    void note(int ret) {
        if (ret < 0 && error_ == 0)
            error_ = ret;
    }

    Task<void> co_worker(BlockBackend& image, std::byte* data) {
        iovec element{data, static_cast<size_t>(size_)};
        while (to_start_ > 0 && error_ == 0) {
            --to_start_;
            const unsigned number = started_++;
            const int64_t at = next_offset_;
            next_offset_ = last_start_ > 0 ? (at + step_) % last_start_ : 0;
            note(writes() ? co_await image.co_pwritev(at, size_, IoVector(element))
                          : co_await image.co_preadv(at, size_, IoVector(element)));
            if (flush_interval_ && no_drain_ && (number + 1) % flush_interval_ == 0)
                note(co_await image.co_flush());
        }
    }

    ImageArguments image_;
    std::string filename_;
    unsigned count_ = 75000, depth_ = 64, flush_interval_ = 0;
    int64_t offset_ = 0, size_ = 4096, step_ = 0;
    int pattern_ = 0;
    bool no_drain_ = false, quiet_ = false;

    unsigned to_start_ = 0, started_ = 0;
    int64_t next_offset_ = 0, last_start_ = 0;
    int error_ = 0;
};

}  // namespace

const CommandType kBench{
    .name = "bench",
    .syntax =
        "[-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] [-i aio] [-n] [--no-drain] [-o offset] "
        "[--pattern=pattern] [-q] [-s buffer_size] [-S step_size] [-t cache] [-w] [-U] filename",
    .make = make_command<Bench>,
};

}  // namespace ashlar::img
