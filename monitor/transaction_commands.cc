// `transaction`: actions of which either all happen or none.
#include "monitor/bitmap_args.h"
#include "monitor/commands.h"
#include "monitor/daemon.h"
#include "monitor/transaction.h"

namespace ashlar {

namespace {

enum class ActionType : uint8_t {
    Abort,
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapRemove
};
constexpr auto enum_names(ActionType) {
    return std::to_array<EnumName<ActionType>>({
        {ActionType::Abort, "abort"},
        {ActionType::BitmapAdd, "block-dirty-bitmap-add"},
        {ActionType::BitmapClear, "block-dirty-bitmap-clear"},
        {ActionType::BitmapDisable, "block-dirty-bitmap-disable"},
        {ActionType::BitmapEnable, "block-dirty-bitmap-enable"},
        {ActionType::BitmapMerge, "block-dirty-bitmap-merge"},
        {ActionType::BitmapRemove, "block-dirty-bitmap-remove"},
    });
}

struct AbortArgs {
    static const OptionSet<AbortArgs>& options() {
        static const auto set = OptionSet<AbortArgs>("Abort");
        return set;
    }
};

template <class Args>
struct DataOf {
    Args data;

    static const OptionSet<DataOf>& options() {
        static const auto set =
            OptionSet<DataOf>(Args::options().name() + "Wrapper").required("data", &DataOf::data, "its arguments");
        return set;
    }
};

struct Action {
    ActionType type = ActionType::Abort;
    DataOf<AbortArgs> abort;
    DataOf<BitmapAddArgs> add;
    DataOf<BitmapArgs> bitmap;
    DataOf<BitmapMergeArgs> merge;

    static const OptionSet<Action>& options() {
        static const auto set = OptionSet<Action>("TransactionAction")
                                    .required("type", &Action::type, "what to do")
                                    .variant("abort", &Action::abort)
                                    .variant("block-dirty-bitmap-add", &Action::add)
                                    .variant("block-dirty-bitmap-clear", &Action::bitmap)
                                    .variant("block-dirty-bitmap-disable", &Action::bitmap)
                                    .variant("block-dirty-bitmap-enable", &Action::bitmap)
                                    .variant("block-dirty-bitmap-merge", &Action::merge)
                                    .variant("block-dirty-bitmap-remove", &Action::bitmap);
        return set;
    }
};

enum class CompletionMode : uint8_t { Individual, Grouped };
constexpr auto enum_names(CompletionMode) {
    return std::to_array<EnumName<CompletionMode>>(
        {{CompletionMode::Individual, "individual"}, {CompletionMode::Grouped, "grouped"}});
}

struct Properties {
    CompletionMode completion_mode = CompletionMode::Individual;

    static const OptionSet<Properties>& options() {
        static const auto set = OptionSet<Properties>("TransactionProperties")
                                    .optional("completion-mode", &Properties::completion_mode,
                                              "whether jobs that are begun end together as well");
        return set;
    }
};

struct TransactionArgs {
    std::vector<Action> actions;
    std::optional<Properties> properties;

    static const OptionSet<TransactionArgs>& options() {
        static const auto set = OptionSet<TransactionArgs>("transaction")
                                    .required("actions", &TransactionArgs::actions, "what to do, in this order")
                                    .optional("properties", &TransactionArgs::properties, "how they go together");
        return set;
    }
};

using Bitmap = std::shared_ptr<DirtyBitmap>;

// How to give a bitmap the bits back that it has now.
Result<std::function<void()>> restorer(const Bitmap& bitmap) {
    auto copy = DirtyBitmap::create("", bitmap->granularity(), bitmap->size());
    if (!copy)
        return std::unexpected(std::move(copy.error()));
    (*copy)->merge(*bitmap);
    return [bitmap, saved = std::move(*copy)] {
        bitmap->clear_all();
        bitmap->merge(*saved);
    };
}

// change() of the bits of the bitmap of that name.
template <class Change>
Result<void> change_bits(Transaction& transaction, const BlockDriverState& node, std::string_view name, Change change) {
    auto bitmap = get_bitmap(node, name);
    if (!bitmap)
        return std::unexpected(std::move(bitmap.error()));
    auto restore = restorer(*bitmap);
    if (!restore)
        return std::unexpected(std::move(restore.error()));
    if (auto changed = change(); !changed)
        return changed;
    transaction.done(std::move(*restore));
    return {};
}

Result<void> enable(Transaction& transaction, BlockDriverState& node, std::string_view name, bool on) {
    auto bitmap = get_bitmap(node, name);
    const bool before = bitmap && (*bitmap)->is_enabled();
    if (auto enabled = enable_bitmap(node, name, on); !enabled)
        return enabled;
    transaction.done([bitmap = std::move(*bitmap), before] { bitmap->set_enabled(before); });
    return {};
}

Task<Result<void>> co_add(Transaction& transaction, BlockDriverState& node, const BitmapAddArgs& args) {
    auto added = co_await co_add_bitmap(node, args.wanted());
    if (added)
        transaction.done([&node, bitmap = find_bitmap(node, args.name)] { node.remove_dirty_bitmap(*bitmap); });
    co_return added;
}

Task<Result<void>> co_remove(Transaction& transaction, BlockDriverState& node, const BitmapArgs& args) {
    auto bitmap = co_await co_begin_removal(node, args.name);
    if (!bitmap)
        co_return std::unexpected(std::move(bitmap.error()));
    transaction.done([bitmap = *bitmap] { bitmap->set_busy(false); },
                     [&node, bitmap = *bitmap] { finish_removal(node, *bitmap); });
    co_return Result<void>();
}

Task<Result<void>> co_do(Transaction& transaction, const Action& action) {
    if (action.type == ActionType::Abort)
        co_return fail("Transaction aborted using Abort action");
    const bool is_add = action.type == ActionType::BitmapAdd;
    const bool is_merge = action.type == ActionType::BitmapMerge;
    const std::string& name = is_add     ? action.add.data.node
                              : is_merge ? action.merge.data.node
                                         : action.bitmap.data.node;
    auto found = transaction.hold(name);
    if (!found)
        co_return std::unexpected(std::move(found.error()));
    BlockDriverState& node = **found;
    const BitmapArgs& bitmap = action.bitmap.data;
    const BitmapMergeArgs& merge = action.merge.data;
    switch (action.type) {
        case ActionType::BitmapAdd:
            co_return co_await co_add(transaction, node, action.add.data);
        case ActionType::BitmapRemove:
            co_return co_await co_remove(transaction, node, bitmap);
        case ActionType::BitmapEnable:
        case ActionType::BitmapDisable:
            co_return enable(transaction, node, bitmap.name, action.type == ActionType::BitmapEnable);
        case ActionType::BitmapClear:
            co_return change_bits(transaction, node, bitmap.name, [&] { return clear_bitmap(node, bitmap.name); });
        case ActionType::BitmapMerge:
            co_return change_bits(transaction, node, merge.target,
                                  [&] { return merge_bitmaps(node, merge.target, merge.sources()); });
        case ActionType::Abort:
            break;
    }
    co_return Result<void>();
}

Task<Result<void>> transaction(Daemon& daemon, TransactionArgs args) {
    // None of the actions begins a job.
    if (args.properties && args.properties->completion_mode == CompletionMode::Grouped)
        for (const Action& action : args.actions)
            if (action.type != ActionType::Abort)
                co_return fail("Action '{}' does not support Transaction property completion-mode = grouped",
                               enum_name(action.type));
    Transaction transaction(daemon.graph(), co_await daemon.graph().co_drain_all());
    Result<void> result;
    for (const Action& action : args.actions) {
        result = co_await co_do(transaction, action);
        if (!result)
            break;
    }
    auto ended = co_await transaction.co_end(result.has_value());
    co_return result ? ended : result;
}

}  // namespace

void add_transaction_commands(QmpCommands& commands, Daemon& daemon) {
    commands.add("transaction", daemon, transaction);
}

}  // namespace ashlar
