// Reopening: nodes get new options, flags and children while they are used.
//
// Everything that it touches is drained; every driver prepares what it needs for its new options; then one transaction
// changes flags and edges and checks the permissions, and either all drivers commit or all go back.
#include "block/graph_drain.h"
#include "block/graph_transaction.h"
#include "block/open_spec.h"
#include "util/report.h"

#include <algorithm>
#include <cassert>

namespace ashlar {

struct BlockGraph::Reopening {
    std::vector<std::unique_ptr<ReopenContext>> queue;
    size_t prepared = 0;  // how many drivers have to be told how it ends

    ReopenContext* find(const BlockDriverState& node) {
        auto it = std::find_if(queue.begin(), queue.end(), [&](const auto& c) { return &c->node_ == &node; });
        return it == queue.end() ? nullptr : it->get();
    }
};

BlockDriverState& ReopenContext::new_child(std::string_view name) const {
    for (const Replacement& replacement : replacements_)
        if (replacement.edge->name() == name)
            return *replacement.after;
    return node_.find_child(name)->node();
}

namespace {

bool reaches(const BlockDriverState& from, const BlockDriverState& to) {
    if (&from == &to)
        return true;
    return std::any_of(from.children().begin(), from.children().end(),
                       [&](const auto& child) { return reaches(child->node(), to); });
}

}  // namespace

// What `options`, complete and with the node's name, ask of the node.
Result<void> BlockGraph::queue_reopen(Reopening& reopening, Json options, Typing typing) {
    const Json* given = json_find(options, "node-name");
    if (!given || !json_string(*given))
        return fail("node-name not specified");
    const std::string name = *json_string(*given);
    BlockDriverState* node = find_node(name);
    if (!node)
        return fail("Failed to find node with node-name='{}'", name);
    if (reopening.find(*node))
        return fail("Node '{}' is to be reopened twice", name);
    auto taken = NodeOptions::options().take(options, typing);
    if (!taken)
        return std::unexpected(std::move(taken.error()));
    if (taken->driver.empty())
        return fail("Parameter 'driver' is missing");
    if (taken->driver != node->type_.name)
        return fail("Cannot change the option 'driver'");
    const NodeFlags base =
        node->inherits_from_ ? inherited_flags(node->inherits_from_->flags_, node->inherits_as_) : node->base_flags_;
    auto flags = resolve_flags(*taken, base);
    if (!flags)
        return std::unexpected(std::move(flags.error()).prefixed(fmt::format("node '{}'", name)));

    std::unique_ptr<ReopenContext> context(new ReopenContext(*node, *flags));
    context->old_flags_ = node->flags_;
    context->node_options_ = *taken;
    context->given_ = JsonBox(options);
    context->typing_ = typing;
    for (const auto& edge : node->children_) {
        const Json* wanted = json_find(options, edge->name());
        if (!wanted) {  // stays as it is
            options[edge->name()] = edge->node().node_name();
            continue;
        }
        const std::string* reference = json_string(*wanted);
        if (!reference)
            return std::unexpected(Error{
                .message =
                    fmt::format("Cannot change the options of child '{}' together with node '{}'", edge->name(), name),
                .hint = fmt::format("Reopen node '{}' by its own name, and name it here.", edge->node().node_name())});
        auto found = find_device_or_node(*reference);
        if (!found)
            return std::unexpected(std::move(found.error()));
        if (*found == &edge->node())
            continue;
        if (reaches(**found, *node))
            return fail("Making '{}' a {} child of '{}' would create a cycle", *reference, edge->name(), name);
        context->replacements_.push_back({edge.get(), &edge->node(), *found});
    }
    context->options_ = JsonBox(std::move(options));
    reopening.queue.push_back(std::move(context));
    return {};
}

// Children that were opened for a node follow its flags where their own options do not say otherwise.
Result<void> BlockGraph::queue_inheriting(Reopening& reopening, size_t index) {
    BlockDriverState& parent = reopening.queue[index]->node_;
    const NodeFlags parent_flags = reopening.queue[index]->new_flags_;
    for (const auto& edge : parent.children_) {
        BlockDriverState& child = edge->node();
        if (child.inherits_from_ != &parent)
            continue;
        ReopenContext* queued = reopening.find(child);
        auto flags = resolve_flags(queued ? queued->node_options_ : child.node_options_,
                                   inherited_flags(parent_flags, child.inherits_as_));
        if (!flags)
            return std::unexpected(std::move(flags.error()).prefixed(child.description()));
        if (queued) {
            queued->new_flags_ = *flags;
            continue;
        }
        if (*flags == child.flags_)
            continue;
        std::unique_ptr<ReopenContext> context(new ReopenContext(child, *flags));
        context->old_flags_ = child.flags_;
        context->node_options_ = child.node_options_;
        context->given_ = child.driver_options_;
        context->typing_ = child.typing_;
        Json options = *child.driver_options_;
        for (const auto& below : child.children_)
            options[below->name()] = below->node().node_name();
        context->options_ = JsonBox(std::move(options));
        reopening.queue.push_back(std::move(context));
    }
    return {};
}

Json BlockGraph::given_options(const BlockDriverState& node) const {
    Json options = NodeOptions::options().to_json(node.node_options_);
    options.update(*node.options_);
    options["node-name"] = node.node_name_;
    return options;
}

Task<Result<void>> BlockGraph::co_blockdev_reopen(std::vector<Json> options, Typing typing) {
    auto one_at_a_time = co_await reopening_.co_lock();
    Reopening reopening;
    for (Json& one : options)
        if (auto queued = queue_reopen(reopening, std::move(one), typing); !queued)
            co_return queued;
    for (size_t i = 0; i < reopening.queue.size(); ++i)
        if (auto queued = queue_inheriting(reopening, i); !queued)
            co_return queued;

    // The nodes stay although others may be closing them meanwhile.
    std::vector<BlockDriverState*> held;
    for (const auto& context : reopening.queue) {
        held.push_back(&context->node_);
        for (const auto& replacement : context->replacements_)
            held.push_back(replacement.after);
    }
    for (BlockDriverState* node : held)
        ref(*node);
    Result<void> result = co_await co_reopen_drained(reopening, held);
    if (result)  // what the edges do not lead to any more
        for (const auto& context : reopening.queue)
            for (const auto& replacement : context->replacements_)
                held.push_back(replacement.before);
    for (BlockDriverState* node : held)
        if (auto closed = co_await co_unref(*node); !closed && result)
            result = std::move(closed);
    co_return result;
}

// On success an edge that was replaced holds a reference, and the one to the node before is the caller's to give back.
Task<Result<void>> BlockGraph::co_reopen_drained(Reopening& reopening, std::vector<BlockDriverState*> nodes) {
    auto section = std::make_unique<DrainedSection>(*this);
    section->roots = std::move(nodes);
    Drained drained = co_await co_drain_section(std::move(section));

    Result<void> result;
    for (const auto& context : reopening.queue) {
        result = co_await context->node_.driver_->co_reopen_prepare(*context);
        if (!result)
            break;
        ++reopening.prepared;
    }
    if (result)
        result = change_edges_and_flags(reopening);
    for (size_t i = 0; i < reopening.prepared; ++i) {
        ReopenContext& context = *reopening.queue[i];
        BlockDriver& driver = *context.node_.driver_;
        result ? driver.reopen_commit(context) : driver.reopen_abort(context);
    }
    if (!result)
        co_return result;

    for (const auto& context : reopening.queue) {
        BlockDriverState& node = context->node_;
        node.node_options_ = context->node_options_;
        node.driver_options_ = context->given_;
        node.typing_ = context->typing_;
        node.describe_options();
    }
    for (const auto& node : nodes_)
        if (node->driver_ && std::any_of(reopening.queue.begin(), reopening.queue.end(),
                                         [&](const auto& c) { return reaches(*node, c->node_); }))
            node->refresh_limits();
    for (const auto& context : reopening.queue)
        look_anew(context->node_);
    // What depends on the commit of the drivers.
    GraphTransaction afterwards;
    for (const auto& context : reopening.queue)
        afterwards.set_flags(context->node_, context->node_.flags_);
    if (auto done = afterwards.commit(); !done) {
        error_report(done.error());
        afterwards.commit_anyway();
    }
    co_return result;
}

Result<void> BlockGraph::change_edges_and_flags(Reopening& reopening) {
    GraphTransaction transaction;
    for (const auto& context : reopening.queue) {
        if (context->new_flags_ != context->node_.flags_)
            transaction.set_flags(context->node_, context->new_flags_);
        for (auto& replacement : context->replacements_) {
            transaction.detach(*replacement.edge);
            transaction.attach(*replacement.edge, *replacement.after);
        }
    }
    if (auto done = transaction.commit(); !done)
        return done;
    for (const auto& context : reopening.queue) {
        for (auto& replacement : context->replacements_) {
            ref(*replacement.after);
            if (replacement.before->inherits_from_ == &context->node_)
                replacement.before->stop_inheriting();
        }
    }
    return {};
}

}  // namespace ashlar
