#include "block/blkdebug/driver.h"

#include <cstring>
#include <fstream>
#include <sstream>

#include "block/blkdebug/config.h"
#include "block/block_node.h"
#include "util/json.h"

namespace ashlar {

namespace {

Result<BlkdebugRules> read_config(const std::string& filename) {
    std::ifstream file(filename);
    std::stringstream text;
    if (!file || !(text << file.rdbuf()).good())
        return fail_errno(errno, "Could not read blkdebug config file '{}'", filename);
    auto parsed = parse_blkdebug_config(text.view());
    if (!parsed)
        return std::unexpected(std::move(parsed.error()).prefixed(filename));
    auto rules = BlkdebugRules::options().parse(*parsed, Typing::Lenient);
    if (!rules)
        return std::unexpected(std::move(rules.error()).prefixed(filename));
    return rules;
}

Task<Result<std::unique_ptr<BlockDriver>>> co_open_blkdebug(OpenContext& context) {
    auto options = context.parse<BlkdebugOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    Result<BlkdebugRules> from_file;
    if (options->config)
        from_file = read_config(*options->config);
    if (!from_file)
        co_return std::unexpected(std::move(from_file.error()));

    auto child = co_await context.co_open_child("image", options->image, ChildRole::Filtered | ChildRole::Primary);
    if (!child)
        co_return std::unexpected(std::move(child.error()));
    if (auto possible = options->check_limits((*child)->node().limits().request_alignment); !possible)
        co_return std::unexpected(std::move(possible.error()));

    auto driver = std::make_unique<BlkdebugDriver>(context, std::move(*options));
    for (auto& rule : from_file->inject_error)
        driver->rules().add(std::move(rule));
    for (auto& rule : from_file->set_state)
        driver->rules().add(std::move(rule));
    co_await driver->co_debug_event(BlkdebugEvent::None);
    co_return driver;
}

// blkdebug:CONFIG:IMAGE, of which CONFIG may be empty.
Result<Json> parse_filename(std::string_view filename) {
    std::string_view rest = filename.substr(filename.find(':') + 1);
    size_t colon = rest.find(':');
    if (colon == std::string_view::npos)
        return fail("blkdebug requires both config file and image path");
    Json options{{"image", {{"filename", rest.substr(colon + 1)}}}};
    if (colon > 0)
        options["config"] = rest.substr(0, colon);
    return options;
}

constexpr std::string_view kPrefixes[] = {"blkdebug"};

const OptionSchema& schema() {
    return BlkdebugOptions::options();
}

}  // namespace

const DriverType kBlkdebugDriver = {.name = "blkdebug",
                                    .options = schema,
                                    .co_open = co_open_blkdebug,
                                    .is_protocol = true,
                                    .is_filter = true,
                                    .prefixes = kPrefixes,
                                    .parse_filename = parse_filename};

Blkdebug* find_blkdebug(BlockDriverState& node) {
    if (&node.type() == &kBlkdebugDriver)
        return &static_cast<BlkdebugDriver&>(node.driver()).rules();
    BdrvChild* child = node.primary_child();
    return child ? find_blkdebug(child->node()) : nullptr;
}

BlkdebugDriver::BlkdebugDriver(const OpenContext& context, BlkdebugOptions options)
    : BlockDriver(context), options_(std::move(options)) {
    for (const auto& rule : options_.rules.inject_error)
        rules_.add(rule);
    for (const auto& rule : options_.rules.set_state)
        rules_.add(rule);
}

Task<int> BlkdebugDriver::co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (int ret = co_await rules_.co_check(BlkdebugIoType::Read, offset, bytes); ret < 0)
        co_return ret;
    co_return co_await primary_child()->co_preadv(offset, bytes, iov, flags);
}

Task<int> BlkdebugDriver::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (int ret = co_await rules_.co_check(BlkdebugIoType::Write, offset, bytes); ret < 0)
        co_return ret;
    co_return co_await primary_child()->co_pwritev(offset, bytes, iov, flags);
}

Task<int> BlkdebugDriver::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    if (int ret = co_await rules_.co_check(BlkdebugIoType::WriteZeroes, offset, bytes); ret < 0)
        co_return ret;
    co_return co_await primary_child()->co_pwrite_zeroes(offset, bytes, flags);
}

Task<int> BlkdebugDriver::co_pdiscard(int64_t offset, int64_t bytes) {
    if (int ret = co_await rules_.co_check(BlkdebugIoType::Discard, offset, bytes); ret < 0)
        co_return ret;
    co_return co_await primary_child()->co_pdiscard(offset, bytes);
}

Task<int> BlkdebugDriver::co_flush() {
    if (int ret = co_await rules_.co_check(BlkdebugIoType::Flush, 0, 0); ret < 0)
        co_return ret;
    co_return co_await primary_child()->co_flush();
}

Task<BlockStatus> BlkdebugDriver::co_block_status(bool want_zero, int64_t offset, int64_t bytes) {
    if (int ret = co_await rules_.co_check(BlkdebugIoType::BlockStatus, offset, bytes); ret < 0)
        co_return BlockStatus{.ret = ret};
    co_return co_await BlockDriver::co_block_status(want_zero, offset, bytes);
}

BlockLimits BlkdebugDriver::limits() const {
    BlockLimits limits;
    if (options_.align)
        limits.request_alignment = static_cast<uint32_t>(options_.align);
    limits.max_transfer = static_cast<uint32_t>(options_.max_transfer);
    limits.pwrite_zeroes_alignment = static_cast<uint32_t>(options_.opt_write_zero);
    limits.max_pwrite_zeroes = static_cast<int64_t>(options_.max_write_zero);
    limits.pdiscard_alignment = static_cast<uint32_t>(options_.opt_discard);
    limits.max_pdiscard = static_cast<int64_t>(options_.max_discard);
    return limits;
}

SupportedFlags BlkdebugDriver::supported_flags() const {
    // Without Fua: a write that must be durable is a write and a flush, which can fail by rules of their own.
    const RequestFlags below = primary_child()->node().driver().supported_flags().write;
    return {.read = RequestFlags::Prefetch,
            .write = (RequestFlags::Compressed | RequestFlags::Unchanged) & below,
            .write_zeroes = RequestFlags::MayUnmap | RequestFlags::NoFallback};
}

ChildPerm BlkdebugDriver::child_perm(const BdrvChild& child, ChildPerm cumulative) const {
    ChildPerm perms = BlockDriver::child_perm(child, cumulative);
    for (BlockPerm taken : options_.take_child_perms)
        perms.perm = perms.perm | taken;
    for (BlockPerm unshared : options_.unshare_child_perms)
        perms.shared = perms.shared & ~unshared;
    return perms;
}

Task<Result<void>> BlkdebugDriver::co_reopen_prepare(ReopenContext& context) {
    auto options = context.parse<BlkdebugOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    Json was = BlkdebugOptions::options().to_json(options_), will_be = BlkdebugOptions::options().to_json(*options);
    for (const auto& [key, value] : was.items())
        if (key != "image" && will_be.value(key, Json()) != value)
            co_return fail("Cannot change the option '{}'", key);
    co_return Result<void>();
}

std::string BlkdebugDriver::filename() const {
    // As a name only where that says it all.
    Json options = BlkdebugOptions::options().to_json(options_);
    Json plain = BlkdebugOptions::options().to_json({});
    for (const auto& [key, value] : options.items())
        if (key != "image" && key != "config" && plain.value(key, Json()) != value)
            return "";
    std::string image = primary_child()->node().driver().filename();
    return image.empty() ? "" : fmt::format("blkdebug:{}:{}", options_.config.value_or(""), image);
}

}  // namespace ashlar
