// BlockDriver: what a format, a protocol or a filter implements; and DriverRegistry, where main() makes them known.
//
// A driver is one object per node, made by its type's co_open() when everything that can fail has succeeded: an object
// that exists is open. Unless said otherwise its functions are called in the main context. Those of the data path are
// called from any AioContext, many at a time; the generic request path (block/io_*.cc) has checked the request before:
//  - offset and bytes are not negative, not over kMaxLength, multiples of limits().request_alignment, bytes > 0, and
//    bytes is at most limits().max_transfer;
//  - reads end at the length rounded up to the alignment; the vector has at most limits().max_iov elements, whose
//    addresses are multiples of limits().min_mem_alignment, and their lengths of the smaller one of that and
//    request_alignment; it is empty only for a Prefetch;
//  - flags are those that supported_flags() names, the node is writable, and overlapping writes are serialised where
//    one of them needs it.
// They return 0 or a negative errno, never a short count; co_truncate() a Result, whose error has a `code`. A driver
// that is drained has no request in it.
#pragma once

#include "block/bdrv_child.h"
#include "block/block_types.h"
#include "block/node_flags.h"
#include "util/error.h"
#include "util/json_box.h"
#include "util/options.h"
#include "util/task.h"

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

class AioContext;
class BlockDriver;
class BlockGraph;
class CreateContext;
class ImageFormat;
class MeasureContext;
class OpenContext;
class ReopenContext;
struct MeasuredSize;

// --- the types ---

struct DriverType {
    std::string_view name;                       // "raw"
    const OptionSchema& (*options)() = nullptr;  // those of this driver, without NodeOptions
    Task<Result<std::unique_ptr<BlockDriver>>> (*co_open)(OpenContext& context) = nullptr;

    bool is_protocol = false;  // the lowest of a chain: it is opened by `filename`, not over a `file` child
    bool is_filter = false;    // shows its primary child as it is

    // Protocols. Names that begin with one of these and a colon are this driver's: "nbd", "nbd+unix".
    std::span<const std::string_view> prefixes = {};
    // Turns such a name into the driver's options. Null: {"filename": <what follows the prefix and colon>}.
    Result<Json> (*parse_filename)(std::string_view filename) = nullptr;
    // How much it wants to open a name without prefix: 0 not at all; the highest score wins ("file" has 1).
    int (*probe_filename)(const std::string& filename) = nullptr;

    // Formats. How sure it is from the first kProbeSize bytes (or fewer) that the image is its own: 0 to 100.
    static constexpr size_t kProbeSize = 512;
    static constexpr int kRawScore = 1;  // that of "raw", which anything may be
    int (*probe)(std::span<const std::byte> head, std::string_view filename) = nullptr;
    bool supports_backing = false;  // its images may have a backing file

    // Making images (block/image_create.h). Null if that cannot be done. The names of the options are those of
    // `qemu-img create -o`; one is `size`.
    const OptionSchema& (*create_options)() = nullptr;
    Task<Result<void>> (*co_create)(CreateContext& context) = nullptr;
    Task<Result<MeasuredSize>> (*co_measure)(MeasureContext& context) = nullptr;
    // Protocols: removes what co_create has made. May suspend the thread.
    Result<void> (*remove)(const std::string& filename) = nullptr;
    // What can be changed in an image that exists (ImageFormat::co_amend).
    const OptionSchema& (*amend_options)() = nullptr;
};

class DriverRegistry {
public:
    // `type` outlives the registry.
    void add(const DriverType& type);
    std::span<const DriverType* const> types() const { return types_; }
    const DriverType* find(std::string_view name) const;
    Result<const DriverType*> get(std::string_view name) const;  // "Unknown driver 'x' (did you mean ...?)"

    // The protocol driver for a file name; fails for an unknown prefix: "Unknown protocol 'x'".
    Result<const DriverType*> protocol_for(const std::string& filename) const;
    // The format with the highest score. Fails for the header of a format that is known but has no driver here.
    Result<const DriverType*> probe(std::span<const std::byte> head, std::string_view filename) const;
    // True if a first sector is not one that would be taken for a raw image's.
    bool looks_like_format(std::span<const std::byte> head) const;

private:
    std::vector<const DriverType*> types_;
};

void register_all_drivers(DriverRegistry& registry);

// --- opening ---

// What a type's co_open() is given; lives until it has returned.
class OpenContext {
public:
    BlockDriverState& node() const { return node_; }
    BlockGraph& graph() const { return graph_; }
    const NodeFlags& flags() const { return flags_; }
    Typing typing() const { return typing_; }
    // The name the user gave for a legacy file name, for messages; else the node-name.
    const std::string& display_name() const { return display_name_; }

    // Parses the driver's options: all must be known to T. (What NodeOptions has is taken out already.)
    template <class T>
    Result<T> parse() const {
        return T::options().parse(*options_, typing_);
    }

    // Opens or finds what `ref` says and makes it a child; flags that `ref` does not set are inherited. The child may
    // be read at once; other permissions come when child_perm() asks for them.
    [[nodiscard]] Task<Result<BdrvChild*>> co_open_child(std::string name, BlockdevRef ref, ChildRole role);

    // The same for a child that the image itself names: a file name, with protocol or json: if need be. The format is
    // probed if `driver` is empty. Chains without end are refused.
    [[nodiscard]] Task<Result<BdrvChild*>> co_open_named_child(std::string name, std::string filename,
                                                               std::string driver, ChildRole role);

    // For a node that cannot be written: makes it read-only if auto-read-only allows that, else fails with `why`.
    Result<void> fall_back_to_read_only(Error why);

private:
    friend class BlockGraph;
    OpenContext(BlockGraph& graph, BlockDriverState& node, NodeFlags& flags, JsonBox options, Typing typing,
                std::string display_name, bool complete)
        : graph_(graph),
          node_(node),
          flags_(flags),
          options_(std::move(options)),
          typing_(typing),
          display_name_(std::move(display_name)),
          complete_(complete) {}

    BlockGraph& graph_;
    BlockDriverState& node_;
    NodeFlags& flags_;
    JsonBox options_;
    Typing typing_;
    std::string display_name_;
    bool complete_;  // every child must name its driver
};

// The change that a node is asked to make, between reopen_prepare and reopen_commit or reopen_abort.
class ReopenContext {
public:
    const NodeFlags& old_flags() const { return old_flags_; }
    const NodeFlags& new_flags() const { return new_flags_; }

    // The driver's new options; those of a child are BlockdevRefs, given only as references or not at all.
    template <class T>
    Result<T> parse() const {
        return T::options().parse(*options_, typing_);
    }

    // The node that an edge is going to lead to, which may be the one that it leads to now.
    BlockDriverState& new_child(std::string_view name) const;

private:
    friend class BlockGraph;
    ReopenContext(BlockDriverState& node, NodeFlags to) : node_(node), new_flags_(to) {}

    struct Replacement {
        BdrvChild* edge;
        BlockDriverState* before;
        BlockDriverState* after;
    };

    BlockDriverState& node_;
    NodeFlags old_flags_, new_flags_;
    NodeOptions node_options_;
    JsonBox given_;    // the driver's options as they are to be kept
    JsonBox options_;  // with the names of the children
    Typing typing_ = Typing::Strict;
    std::vector<Replacement> replacements_;
};

// --- the driver ---

// Which flags the driver handles itself; the generic path emulates the others.
struct SupportedFlags {
    RequestFlags read = RequestFlags::None;          // Prefetch (dropped, as advice, if it is not handled)
    RequestFlags write = RequestFlags::None;         // Fua, Compressed (refused if it is not handled), Unchanged
    RequestFlags write_zeroes = RequestFlags::None;  // Fua, MayUnmap, NoFallback
};

// The length of an image that grows by being written, shared by all contexts.
class ImageLength {
public:
    int64_t get() const { return bytes_.load(std::memory_order_relaxed); }
    void set(int64_t bytes) { bytes_.store(bytes, std::memory_order_relaxed); }
    void grow_to(int64_t bytes) {
        int64_t old = get();
        while (old < bytes && !bytes_.compare_exchange_weak(old, bytes, std::memory_order_relaxed)) {
        }
    }

private:
    std::atomic<int64_t> bytes_{0};
};

class BlockDriver {
public:
    explicit BlockDriver(const OpenContext& context) : node_(context.node()) {}
    virtual ~BlockDriver() = default;
    BlockDriver(const BlockDriver&) = delete;

    BlockDriverState& node() const { return node_; }

    // --- data path ---
    virtual Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) = 0;
    // Reads without copying what can be had without waiting. False: it is to be read in the ordinary way, and what is
    // in `pages` to be thrown away. `bytes` > 0 within the length. Default: never.
    [[nodiscard]] virtual bool try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages);
    // Where the bytes are in memory, for a system call that takes EFAULT for an answer, made before the request is
    // over: whoever needs them does not wait for the disk. Null: they are to be read in the ordinary way. `bytes` > 0
    // within the length. Default: never.
    [[nodiscard]] virtual const std::byte* try_map(int64_t offset, int64_t bytes);
    virtual Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags);
    // -ENOTSUP: cannot do it better than by writing zeroes, which the generic path then does.
    virtual Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags);
    // -ENOTSUP: cannot discard, which is fine.
    virtual Task<int> co_pdiscard(int64_t offset, int64_t bytes);
    // Writes that have completed are on stable storage when it returns. Default: flushes every child.
    virtual Task<int> co_flush();
    // `want_zero`: worth an effort to find out what reads as zeroes. `bytes` > 0 within the length; the answer may be
    // shorter, or longer. Default: Data with everything below unknown.
    virtual Task<BlockStatus> co_block_status(bool want_zero, int64_t offset, int64_t bytes);
    // Drained or not; the only one to resize. `exact`: no longer than `size`, though a device may stay longer if not.
    virtual Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags);
    virtual int64_t length() const = 0;  // as of now, or a negative errno; cheap

    // --- what it can do: asked after opening, after reopening, and when a child has changed ---
    virtual BlockLimits limits() const { return {}; }
    virtual SupportedFlags supported_flags() const { return {}; }

    // --- permissions ---
    // What is needed of a child when the parents together have `cumulative` on this node. Default: by the child's role
    // and whether the driver is a filter.
    virtual ChildPerm child_perm(const BdrvChild& child, ChildPerm cumulative) const;
    // Permissions on this very node are about to change: check (and take what could be refused), then exactly one of
    // set and abort. Not called when they stay the same.
    virtual Result<void> check_perm(ChildPerm) { return {}; }
    virtual void set_perm(ChildPerm) {}
    virtual void abort_perm() {}

    // --- reopening: drained; exactly one of commit and abort follows a prepare that succeeded ---
    virtual Task<Result<void>> co_reopen_prepare(ReopenContext& context);  // default: fails if any option is given
    virtual void reopen_commit(ReopenContext&) {}
    virtual void reopen_abort(ReopenContext&) {}

    // --- draining: nested; between the two no request may be held back ---
    virtual void drain_begin() {}
    virtual void drain_end() {}

    // Last call; nothing is in flight. The generic path has flushed before.
    virtual Task<int> co_close();

    // --- what it is ---
    // For `query-…` and messages: "disk.img", "nbd://host/x", or "" if options other than the name matter. Default: the
    // primary child's if this is a filter or nothing but the child is needed to find it.
    virtual std::string filename() const;
    virtual JsonBox specific_info() const { return {}; }  // QAPI's ImageInfoSpecific
    virtual int64_t cluster_size() const { return 0; }    // 0: it has none
    virtual int64_t allocated_size() const;               // bytes taken on the host, or a negative errno
    virtual bool may_have_holes() const;                  // Default of these four: the primary child's
    virtual bool is_rotational() const;
    virtual bool can_multi_conn() const;      // a flush covers writes through every connection
    virtual bool supports_fast_zero() const;  // default: NoFallback among the supported flags

    // What it offers of snapshots, checks and the like, while it is open; null if it is no image format that does.
    virtual ImageFormat* image_format() { return nullptr; }

    // --- blkdebug ---
    virtual bool wants_debug_events() const { return false; }
    virtual Task<void> co_debug_event(BlkdebugEvent event);

protected:
    BdrvChild* primary_child() const;

private:
    BlockDriverState& node_;
};

}  // namespace ashlar
