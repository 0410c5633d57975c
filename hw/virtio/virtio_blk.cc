#include "hw/virtio_blk.h"

#include "block/accounting.h"
#include "block/io_vector.h"
#include "util/byte_order.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ashlar {

namespace {

enum Feature : uint64_t {
    kSizeMax = 1 << 1,
    kSegMax = 1 << 2,
    kReadOnlyDisk = 1 << 5,
    kBlkSize = 1 << 6,
    kFlush = 1 << 9,
    kTopology = 1 << 10,
    kConfigWce = 1 << 11,
    kMultiQueue = 1 << 12,
    kDiscard = 1 << 13,
    kWriteZeroes = 1 << 14,
};

enum class Type : uint32_t {
    In = 0,
    Out = 1,
    Flush = 4,
    FlushOut = 5,  // what legacy drivers may call it
    GetId = 8,
    Discard = 11,
    WriteZeroes = 13,
};

enum class RequestStatus : uint8_t { Ok = 0, IoError = 1, Unsupported = 2 };

// struct virtio_blk_req: type, reserved, sector.
constexpr uint64_t kHeaderBytes = 16;
constexpr uint64_t kIdBytes = 20;
// struct virtio_blk_discard_write_zeroes: sector, sectors, flags.
constexpr uint64_t kRangeBytes = 16;
constexpr uint32_t kUnmap = 1;
constexpr uint32_t kMaxRanges = 32;
// Of one request, and of one of its ranges.
constexpr uint64_t kMaxBytes = INT32_MAX / kSectorSize * kSectorSize;
constexpr uint32_t kMaxSegmentBytes = 4 << 20;

constexpr uint64_t kConfigWriteback = 32;  // its offset in the configuration

using Accounted = BlockAccounting::Type;

}  // namespace

struct VirtioBlk::Request : Completion {
    struct Range {
        int64_t offset, bytes;
        bool unmap;
    };

    VirtioBlk& device;
    Request* next = nullptr;  // the list it is in
    unsigned queue = 0;
    VirtqueueChain chain;
    uint8_t* status = nullptr;
    Type type = Type::In;
    int64_t offset = 0, bytes = 0;
    IoVector data;
    std::vector<Range> ranges;
    size_t range = 0;  // the one that is under way
    bool refused = false;

    explicit Request(VirtioBlk& d) : device(d) {
        fn = [](Completion& completion) {
            auto& self = static_cast<Request&>(completion);
            if (self.ret >= 0 && ++self.range < self.ranges.size()) {
                self.device.submit(self);
                return;
            }
            self.device.completed_.push(self);
            self.device.settle_soon();
        };
    }
    bool is_write() const { return type != Type::In; }
};

void VirtioBlk::RequestList::push(Request& request) {
    request.next = nullptr;
    *tail = &request;
    tail = &request.next;
}

VirtioBlk::Request* VirtioBlk::RequestList::take_all() {
    tail = &head;
    return std::exchange(head, nullptr);
}

// --- life ---

const OptionSet<VirtioBlkOptions>& VirtioBlkOptions::options() {
    using Blk = VirtioBlkOptions;
    static const auto set =
        OptionSet<Blk>("virtio-blk-device")
            .required("drive", &Blk::drive, "the drive or the node that is the disk")
            .optional("iothread", &Blk::iothread, "the IOThread that makes its requests (default: the main loop)")
            .optional("num-queues", &Blk::num_queues, "how many queues it has")
            .optional("queue-size", &Blk::queue_size, "of each queue")
            .optional("serial", &Blk::serial, "what the guest sees as its serial number")
            .optional("logical_block_size", &Blk::logical_block_size, "the smallest unit of a request")
            .optional("physical_block_size", &Blk::physical_block_size, "what is written without reading before")
            .optional("min_io_size", &Blk::min_io_size, "smallest good size of requests")
            .optional("opt_io_size", &Blk::opt_io_size, "best size of requests")
            .optional("write-cache", &Blk::write_cache, "whether writes need a flush (default: as the drive says)")
            .optional("config-wce", &Blk::config_wce, "whether the guest may change that")
            .optional("discard", &Blk::discard, "whether the guest may discard")
            .optional("write-zeroes", &Blk::write_zeroes, "whether the guest may write zeroes without sending them")
            .optional("share-rw", &Blk::share_rw, "whether others may write to the disk meanwhile")
            .optional("rerror", &Blk::rerror, "what to do when a read fails (default: report)")
            .optional("werror", &Blk::werror, "what to do when a write fails (default: enospc)")
            .optional("indirect_desc", &Blk::indirect_desc, "whether the driver may use indirect descriptors")
            .optional("event_idx", &Blk::event_idx, "whether the driver may use event indexes");
    return set;
}

namespace {

bool is_block_size(uint64_t size) {
    return std::has_single_bit(size) && size >= 512 && size <= 2 << 20;
}

Result<void> check(const VirtioBlkOptions& options) {
    if (options.num_queues == 0 || options.num_queues > 32)
        return fail("num-queues property must be from 1 to 32, and is {}", options.num_queues);
    if (!std::has_single_bit(options.queue_size) || options.queue_size < 4 || options.queue_size > Virtqueue::kMaxSize)
        return fail("invalid queue-size property ({}), must be a power of 2 from 4 to {}", options.queue_size,
                    Virtqueue::kMaxSize);
    const uint64_t logical = options.logical_block_size;
    const uint64_t physical = options.physical_block_size.value_or(options.logical_block_size);
    if (!is_block_size(logical))
        return fail("logical_block_size {} is not a power of 2 from 512 to 2097152", logical);
    if (!is_block_size(physical) || physical < logical)
        return fail("physical_block_size {} is not a power of 2 from logical_block_size to 2097152", physical);
    if (options.min_io_size % logical || options.min_io_size / logical > UINT16_MAX)
        return fail("min_io_size {} is not a multiple of logical_block_size, or has more than 65535 blocks",
                    uint64_t{options.min_io_size});
    if (options.opt_io_size % logical || options.opt_io_size / logical > UINT32_MAX)
        return fail("opt_io_size {} is not a multiple of logical_block_size, or has too many blocks",
                    uint64_t{options.opt_io_size});
    if (options.rerror == OnIoError::Enospc)
        return fail("rerror=enospc: reads do not run out of space");
    if (options.serial.size() > kIdBytes)
        return fail("serial: '{}' has more than {} bytes", options.serial, kIdBytes);
    return {};
}

constexpr ChildPerm kUnused{BlockPerm::None, BlockPerm::All};

}  // namespace

Task<Result<std::unique_ptr<VirtioBlk>>> VirtioBlk::co_create(BlockGraph& graph, VirtioBlkOptions options,
                                                              const GuestRam& ram, AioContext& context,
                                                              OnError on_error) {
    if (auto valid = check(options); !valid)
        co_return std::unexpected(std::move(valid.error()));
    BlockBackend* backend = graph.find_backend(options.drive);
    std::unique_ptr<BlockBackend> own;
    if (backend) {
        if (backend->perms().perm != BlockPerm::None)
            co_return fail("Drive '{}' is already in use by another device", options.drive);
        if (!backend->root())
            co_return fail("Device needs media, but drive is empty");
    } else {
        BlockDriverState* node = graph.find_node(options.drive);
        if (!node)
            co_return fail("Property 'virtio-blk-device.drive' can't find value '{}'", options.drive);
        own = std::make_unique<BlockBackend>(graph, "", kUnused);
        if (auto attached = co_await own->co_attach(*node); !attached)
            co_return std::unexpected(std::move(attached.error()));
        backend = own.get();
    }
    ChildPerm perms{BlockPerm::ConsistentRead,
                    BlockPerm::ConsistentRead | BlockPerm::WriteUnchanged | BlockPerm::Resize};
    if (!backend->is_read_only())
        perms.perm = perms.perm | BlockPerm::Write;
    if (options.share_rw)
        perms.shared = perms.shared | BlockPerm::Write;
    if (auto allowed = backend->set_perms(perms); !allowed) {
        if (own)
            (void)co_await own->co_detach();
        co_return std::unexpected(std::move(allowed.error()));
    }
    std::unique_ptr<VirtioBlk> self(new VirtioBlk(std::move(options), ram, context, *backend, std::move(on_error)));
    self->own_backend_ = std::move(own);
    backend->set_resize_hook([device = self.get()] { device->note_length(); });
    co_return self;
}

VirtioBlk::VirtioBlk(VirtioBlkOptions options, const GuestRam& ram, AioContext& context, BlockBackend& backend,
                     OnError on_error)
    : VirtioDevice(fmt::format("virtio-blk-device '{}'", options.drive), 2, ram, context, options.num_queues,
                   options.queue_size),
      options_(std::move(options)),
      backend_(&backend),
      on_error_(std::move(on_error)),
      read_only_(!has(backend.perms().perm, BlockPerm::Write)),
      original_write_cache_(backend.write_cache()) {
    const BlockLimits limits = backend.limits();
    discard_alignment_ =
        static_cast<uint32_t>(std::max<uint64_t>(limits.pdiscard_alignment, options_.logical_block_size) / kSectorSize);
    capacity_ = static_cast<uint64_t>(std::max<int64_t>(backend.length(), 0)) / kSectorSize;
    negotiated(0);
}

VirtioBlk::~VirtioBlk() = default;

Task<void> VirtioBlk::co_close() {
    co_await VirtioDevice::co_close();
    backend_->set_resize_hook({});
    backend_->set_write_cache(original_write_cache_);
    if (own_backend_)
        (void)co_await own_backend_->co_detach();
    else
        (void)backend_->set_perms(kUnused);
}

// In the main context.
void VirtioBlk::note_length() {
    const uint64_t sectors = static_cast<uint64_t>(std::max<int64_t>(backend_->length(), 0)) / kSectorSize;
    if (sectors != capacity_)
        transport().change_config([&] { capacity_ = sectors; });
}

// --- configuration ---

uint64_t VirtioBlk::features() const {
    uint64_t features = kSizeMax | kSegMax | kBlkSize | kTopology | kFlush;
    features |= read_only_ ? uint64_t{kReadOnlyDisk} : 0;
    features |= options_.config_wce ? uint64_t{kConfigWce} : 0;
    features |= options_.num_queues > 1 ? uint64_t{kMultiQueue} : 0;
    features |= options_.discard ? uint64_t{kDiscard} : 0;
    features |= options_.write_zeroes ? uint64_t{kWriteZeroes} : 0;
    features |= options_.indirect_desc ? uint64_t{kVirtioIndirect} : 0;
    features |= options_.event_idx ? uint64_t{kVirtioEventIndex} : 0;
    return features;
}

// struct virtio_blk_config
void VirtioBlk::read_config(uint64_t offset, std::span<uint8_t> bytes) const {
    std::array<uint8_t, 60> config{};
    uint8_t* to = config.data();
    const uint64_t block = options_.logical_block_size;
    const uint64_t physical = options_.physical_block_size.value_or(options_.logical_block_size);
    store_le<uint64_t>(to, capacity_);
    store_le<uint32_t>(to + 8, kMaxSegmentBytes);
    store_le<uint32_t>(to + 12, options_.queue_size - 2u);  // a header and a status are in the chain as well
    store_le<uint32_t>(to + 20, static_cast<uint32_t>(block));
    to[24] = static_cast<uint8_t>(std::countr_zero(physical / block));
    store_le<uint16_t>(to + 26, static_cast<uint16_t>(options_.min_io_size / block));
    store_le<uint32_t>(to + 28, static_cast<uint32_t>(options_.opt_io_size / block));
    to[kConfigWriteback] = backend_->write_cache();
    store_le<uint16_t>(to + 34, options_.num_queues);
    if (options_.discard) {
        store_le<uint32_t>(to + 36, static_cast<uint32_t>(kMaxBytes / kSectorSize));
        store_le<uint32_t>(to + 40, kMaxRanges);
        store_le<uint32_t>(to + 44, discard_alignment_);
    }
    if (options_.write_zeroes) {
        store_le<uint32_t>(to + 48, static_cast<uint32_t>(kMaxBytes / kSectorSize));
        store_le<uint32_t>(to + 52, kMaxRanges);
        to[56] = 1;  // may unmap
    }
    for (size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = offset + i < config.size() ? config[offset + i] : 0;
}

void VirtioBlk::write_config(uint64_t offset, std::span<const uint8_t> bytes) {
    if (offset == kConfigWriteback && bytes.size() == 1 && options_.config_wce)
        backend_->set_write_cache(bytes[0] != 0);
}

// A driver that cannot flush gets a disk whose writes need none.
void VirtioBlk::negotiated(uint64_t features) {
    const bool write_cache =
        options_.write_cache == OnOffAuto::Auto ? original_write_cache_ : options_.write_cache == OnOffAuto::On;
    backend_->set_write_cache(write_cache && (features == 0 || features & kFlush));
}

// --- requests ---

VirtioBlk::Request& VirtioBlk::get_request() {
    if (Request* request = free_.head) {
        free_.head = request->next;
        if (!free_.head)
            free_.tail = &free_.head;
        return *request;
    }
    return *requests_.emplace_back(std::make_unique<Request>(*this));
}

void VirtioBlk::free_request(Request& request) {
    request.chain.clear();
    free_.push(request);
}

bool VirtioBlk::handle_queue(unsigned index) {
    for (;;) {
        Request& request = get_request();
        request.queue = index;
        if (!take(index, request.chain)) {
            free_request(request);
            return true;
        }
        if (request.chain.readable_bytes < kHeaderBytes || request.chain.writable_bytes < 1) {
            free_request(request);
            broken("a request without a header or a status");
            return true;
        }
        begin_request();
        begin(request);
    }
}

void VirtioBlk::begin(Request& request) {
    VirtqueueChain& chain = request.chain;
    std::array<uint8_t, kHeaderBytes> header;
    iov_copy_out({chain.readable.data(), static_cast<unsigned>(chain.readable.size())}, 0, header.data(), kHeaderBytes);
    request.type = static_cast<Type>(load_le<uint32_t>(header.data()));
    const uint64_t sector = load_le<uint64_t>(header.data() + 8);
    request.offset = sector <= static_cast<uint64_t>(kMaxLength / kSectorSize)
                         ? static_cast<int64_t>(sector) * kSectorSize
                         : kMaxLength;
    request.ranges.clear();
    request.range = 0;
    request.refused = false;

    // The last byte is the status, whatever the layout of the rest.
    iovec& last = chain.writable.back();
    request.status = static_cast<uint8_t*>(last.iov_base) + last.iov_len - 1;
    if (--last.iov_len == 0)
        chain.writable.pop_back();

    switch (request.type) {
        case Type::In:
            begin_read(request);
            break;
        case Type::Out:
            begin_write(request);
            break;
        case Type::Flush:
        case Type::FlushOut:
            request.type = Type::Flush;
            submit(request);
            break;
        case Type::GetId:
            get_id(request);
            break;
        case Type::Discard:
        case Type::WriteZeroes:
            begin_ranges(request, request.type == Type::WriteZeroes);
            break;
        default:
            refuse(request, -ENOTSUP);
    }
}

bool VirtioBlk::range_ok(uint64_t offset, uint64_t bytes) const {
    const uint64_t block = options_.logical_block_size;
    const uint64_t end = capacity_ * kSectorSize;
    return bytes <= kMaxBytes && offset % block == 0 && bytes % block == 0 && offset <= end && bytes <= end - offset;
}

void VirtioBlk::begin_read(Request& request) {
    const uint64_t bytes = request.chain.writable_bytes - 1;
    if (!range_ok(static_cast<uint64_t>(request.offset), bytes)) {
        backend_->accounting().invalid(Accounted::Read);
        return refuse(request, -EIO);
    }
    request.bytes = static_cast<int64_t>(bytes);
    request.data = {request.chain.writable.data(), static_cast<unsigned>(request.chain.writable.size())};
    submit(request);
}

void VirtioBlk::begin_write(Request& request) {
    const uint64_t bytes = request.chain.readable_bytes - kHeaderBytes;
    if (read_only_ || !range_ok(static_cast<uint64_t>(request.offset), bytes)) {
        backend_->accounting().invalid(Accounted::Write);
        return refuse(request, -EIO);
    }
    // The data begin behind the header.
    std::vector<iovec>& vector = request.chain.readable;
    size_t header = kHeaderBytes, first = 0;
    while (first < vector.size() && vector[first].iov_len <= header)
        header -= vector[first++].iov_len;
    if (first < vector.size()) {
        vector[first].iov_base = static_cast<uint8_t*>(vector[first].iov_base) + header;
        vector[first].iov_len -= header;
    }
    request.bytes = static_cast<int64_t>(bytes);
    request.data = {vector.data() + first, static_cast<unsigned>(vector.size() - first)};
    submit(request);
}

void VirtioBlk::begin_ranges(Request& request, bool zeroes) {
    const uint64_t bytes = request.chain.readable_bytes - kHeaderBytes;
    if (zeroes ? !options_.write_zeroes : !options_.discard)
        return refuse(request, -ENOTSUP);
    auto invalid = [&](int error) {
        backend_->accounting().invalid(zeroes ? Accounted::Write : Accounted::Unmap);
        refuse(request, error);
    };
    if (read_only_ || bytes == 0 || bytes % kRangeBytes || bytes / kRangeBytes > kMaxRanges)
        return invalid(-EIO);
    std::array<uint8_t, kMaxRanges * kRangeBytes> list;
    iov_copy_out({request.chain.readable.data(), static_cast<unsigned>(request.chain.readable.size())}, kHeaderBytes,
                 list.data(), static_cast<int64_t>(bytes));
    for (const uint8_t* from = list.data(); from < list.data() + bytes; from += kRangeBytes) {
        const uint64_t sector = load_le<uint64_t>(from);
        const uint64_t length = uint64_t{load_le<uint32_t>(from + 8)} * kSectorSize;
        const uint32_t flags = load_le<uint32_t>(from + 12);
        if (flags & ~kUnmap || (flags && !zeroes))
            return invalid(-ENOTSUP);
        if (sector > capacity_ || !range_ok(sector * kSectorSize, length))
            return invalid(-EIO);
        request.ranges.push_back(
            {static_cast<int64_t>(sector) * kSectorSize, static_cast<int64_t>(length), flags != 0});
    }
    submit(request);
}

void VirtioBlk::get_id(Request& request) {
    std::array<uint8_t, kIdBytes> id{};
    std::copy(options_.serial.begin(), options_.serial.end(), id.begin());
    const uint64_t bytes = std::min(request.chain.writable_bytes - 1, kIdBytes);
    iov_copy_in({request.chain.writable.data(), static_cast<unsigned>(request.chain.writable.size())}, 0, id.data(),
                static_cast<int64_t>(bytes));
    refuse(request, 0);
}

// Ends it without having made it.
void VirtioBlk::refuse(Request& request, int error) {
    request.refused = true;
    request.ret = error;
    completed_.push(request);
    settle_soon();
}

void VirtioBlk::submit(Request& request) {
    switch (request.type) {
        case Type::In:
            return backend_->aio_preadv(request.offset, request.bytes, request.data, RequestFlags::None, request);
        case Type::Out:
            return backend_->aio_pwritev(request.offset, request.bytes, request.data, RequestFlags::None, request);
        case Type::Discard: {
            const Request::Range& range = request.ranges[request.range];
            return backend_->aio_pdiscard(range.offset, range.bytes, request);
        }
        case Type::WriteZeroes: {
            const Request::Range& range = request.ranges[request.range];
            return backend_->aio_pwrite_zeroes(range.offset, range.bytes,
                                               range.unmap ? RequestFlags::MayUnmap : RequestFlags::None, request);
        }
        default:
            return backend_->aio_flush(request);
    }
}

void VirtioBlk::settle() {
    uint64_t queues = 0;
    for (Request* request = completed_.take_all(); request;) {
        Request& current = *std::exchange(request, request->next);
        end_request();
        queues |= uint64_t{1} << current.queue;
        finish(current);
    }
    if (is_resetting())
        return;
    for (unsigned i = 0; queues; ++i, queues >>= 1)
        if (queues & 1)
            publish(i);
}

void VirtioBlk::finish(Request& request) {
    if (is_resetting())
        return free_request(request);
    if (request.ret < 0 && !request.refused && keep(request))
        return;
    RequestStatus status = RequestStatus::Ok;
    if (request.ret < 0)
        status = request.ret == -ENOTSUP ? RequestStatus::Unsupported : RequestStatus::IoError;
    *request.status = static_cast<uint8_t>(status);
    // Of a read that failed it is not known what was written before the status.
    const bool whole = status == RequestStatus::Ok || request.chain.writable.empty();
    give_back(request.queue, request.chain.head,
              whole ? static_cast<uint32_t>(std::min<uint64_t>(request.chain.writable_bytes, UINT32_MAX)) : 0);
    free_request(request);
}

// What to do about a failure. True: it is made again later.
bool VirtioBlk::keep(Request& request) {
    if (request.ret == -ENOTSUP)
        return false;
    using Action = GuestIoError::Action;
    OnIoError wanted = request.is_write() ? options_.werror : options_.rerror;
    if (wanted == OnIoError::Auto)
        wanted = request.is_write() ? OnIoError::Enospc : OnIoError::Report;
    Action action = Action::Report;
    if (wanted == OnIoError::Ignore)
        action = Action::Ignore;
    else if (wanted == OnIoError::Stop || (wanted == OnIoError::Enospc && request.ret == -ENOSPC))
        action = Action::Stop;
    if (action == Action::Stop)
        kept_.push(request);
    on_error_({.backend = *backend_, .is_write = request.is_write(), .action = action, .error = request.ret});
    if (action == Action::Ignore)
        request.ret = 0;
    return action == Action::Stop;
}

void VirtioBlk::retry() {
    for (Request* request = kept_.take_all(); request;) {
        Request& current = *std::exchange(request, request->next);
        begin_request();
        submit(current);
    }
}

void VirtioBlk::forget() {
    for (Request* request = kept_.take_all(); request;)
        free_request(*std::exchange(request, request->next));
}

}  // namespace ashlar
