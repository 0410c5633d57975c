// VirtioBlk: a disk (virtio 1.2, 5.2) on a BlockBackend.
//
// All requests that the driver has made available are begun at once, straight from and to the guest's memory; what
// completes in one turn of the loop is given back with one interrupt. Made and closed in the main context; requests are
// made in the AioContext it is given.
#pragma once

#include "block/block_graph.h"
#include "hw/virtio_device.h"
#include "util/options.h"

namespace ashlar {

enum class OnIoError : uint8_t { Auto, Report, Ignore, Enospc, Stop };
constexpr auto enum_names(OnIoError) {
    return std::to_array<EnumName<OnIoError>>({
        {OnIoError::Auto, "auto"},
        {OnIoError::Report, "report"},
        {OnIoError::Ignore, "ignore"},
        {OnIoError::Enospc, "enospc"},
        {OnIoError::Stop, "stop"},
    });
}

enum class OnOffAuto : uint8_t { Auto, On, Off };
constexpr auto enum_names(OnOffAuto) {
    return std::to_array<EnumName<OnOffAuto>>({
        {OnOffAuto::Auto, "auto"},
        {OnOffAuto::On, "on"},
        {OnOffAuto::Off, "off"},
    });
}

// -device virtio-blk-device and device_add; the device's name and bus are the machine's.
struct VirtioBlkOptions {
    std::string drive;
    std::optional<std::string> iothread;
    uint16_t num_queues = 1;
    uint16_t queue_size = 256;
    std::string serial;
    Size logical_block_size{512};
    std::optional<Size> physical_block_size;
    Size min_io_size{0};
    Size opt_io_size{0};
    OnOffAuto write_cache = OnOffAuto::Auto;
    bool config_wce = true;
    bool discard = true;
    bool write_zeroes = true;
    bool share_rw = false;
    OnIoError rerror = OnIoError::Auto;
    OnIoError werror = OnIoError::Auto;
    bool indirect_desc = true;
    bool event_idx = true;

    static const OptionSet<VirtioBlkOptions>& options();
};

// A request has failed.
struct GuestIoError {
    enum class Action : uint8_t { Report, Ignore, Stop };

    BlockBackend& backend;
    bool is_write;
    Action action;
    int error;  // a negative errno
};

class VirtioBlk final : public VirtioDevice {
public:
    // Called in the device's context and with its lock held: it hands over and returns. For Action::Stop the machine
    // is to stop; the request is kept and made again at go_on().
    using OnError = std::function<void(const GuestIoError&)>;

    // `options.iothread` has been looked up by who calls: it is `context`. `drive` is a BlockBackend that no other
    // device has, or a node. A drive that is read-only makes a disk that is.
    [[nodiscard]] static Task<Result<std::unique_ptr<VirtioBlk>>> co_create(BlockGraph& graph, VirtioBlkOptions options,
                                                                            const GuestRam& ram, AioContext& context,
                                                                            OnError on_error);
    ~VirtioBlk() override;

    // Gives the BlockBackend back as it was.
    [[nodiscard]] Task<void> co_close() override;
    BlockBackend& backend() const { return *backend_; }

    uint64_t features() const override;
    void read_config(uint64_t offset, std::span<uint8_t> bytes) const override;
    void write_config(uint64_t offset, std::span<const uint8_t> bytes) override;
    void negotiated(uint64_t features) override;

private:
    struct Request;
    struct RequestList {
        Request* head = nullptr;
        Request** tail = &head;

        void push(Request& request);
        Request* take_all();
    };

    VirtioBlk(VirtioBlkOptions options, const GuestRam& ram, AioContext& context, BlockBackend& backend,
              OnError on_error);

    bool handle_queue(unsigned index) override;
    void retry() override;
    void settle() override;
    void forget() override;

    Request& get_request();
    void free_request(Request& request);
    void begin(Request& request);
    void begin_read(Request& request);
    void begin_write(Request& request);
    void begin_ranges(Request& request, bool zeroes);
    void get_id(Request& request);
    void submit(Request& request);
    void refuse(Request& request, int error);
    void finish(Request& request);
    bool keep(Request& request);
    bool range_ok(uint64_t sector, uint64_t bytes) const;
    void note_length();

    const VirtioBlkOptions options_;
    std::unique_ptr<BlockBackend> own_backend_;  // if the drive is a node
    BlockBackend* const backend_;
    const OnError on_error_;
    const bool read_only_;
    const bool original_write_cache_;
    uint32_t discard_alignment_ = 0;     // in sectors
    std::atomic<uint64_t> capacity_{0};  // in sectors

    std::vector<std::unique_ptr<Request>> requests_;
    RequestList free_;
    RequestList completed_;  // the context's alone
    RequestList kept_;       // to be made again
};

}  // namespace ashlar
