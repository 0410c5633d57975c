// BitmapModel: what a dirty bitmap is to say, a bool for each granule; and the comparison with what a node's say.
#pragma once

#include "block/block_graph.h"
#include "block/dirty_bitmap.h"
#include "block/node_bitmaps.h"

#include <glib.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace ashlar::test {

struct BitmapModel {
    uint32_t granularity = 0;
    bool enabled = true;
    std::vector<bool> bits = {};

    void resize(int64_t size) { bits.resize(static_cast<size_t>((size + granularity - 1) / granularity)); }
    void set(int64_t offset, int64_t bytes) {
        for (int64_t i = offset / granularity; i * granularity < offset + bytes; ++i)
            bits[static_cast<size_t>(i)] = true;
    }
    void set_all() { bits.assign(bits.size(), true); }
    void clear() { bits.assign(bits.size(), false); }
    void merge(const BitmapModel& other, int64_t size) {
        for (size_t i = 0; i < other.bits.size(); ++i)
            if (int64_t offset = static_cast<int64_t>(i) * other.granularity; other.bits[i])
                set(offset, std::min<int64_t>(other.granularity, size - offset));
    }
};

using BitmapModels = std::map<std::string, BitmapModel>;

// The node has these, all of them persistent, and no others.
inline void assert_bitmaps(const BlockDriverState& node, const BitmapModels& models) {
    g_assert_cmpuint(node.dirty_bitmaps().size(), ==, models.size());
    for (const auto& [name, model] : models) {
        auto bitmap = find_bitmap(node, name);
        g_assert_nonnull(bitmap.get());
        g_assert_true(bitmap->is_persistent() && !bitmap->is_inconsistent());
        g_assert_cmpint(bitmap->is_enabled(), ==, model.enabled);
        g_assert_cmpuint(bitmap->granularity(), ==, model.granularity);
        g_assert_cmpuint(bitmap->bits(), ==, model.bits.size());
        g_assert_cmpint(bitmap->count(), ==,
                        std::count(model.bits.begin(), model.bits.end(), true) * int64_t{model.granularity});
        for (size_t i = 0; i < model.bits.size(); ++i)
            if (bool dirty = bitmap->is_dirty(static_cast<int64_t>(i) * model.granularity); dirty != model.bits[i])
                g_error("bitmap %s: granule %zu is %s", name.c_str(), i, dirty ? "dirty" : "clean");
    }
}

}  // namespace ashlar::test
