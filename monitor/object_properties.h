// What qom-list, qom-get and qom-set see of an object.
//
// Main context. The functions refer to the object: they are called while it is there.
#pragma once

#include "block/throttle_groups.h"
#include "util/io_thread.h"
#include "util/json.h"
#include "util/secrets.h"

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace ashlar {

struct ObjectProperty {
    std::string_view name;
    std::string_view type;
    std::function<Json()> get;
    std::function<Result<void>(const Json&)> set = {};  // null: it cannot be changed
};

struct ObjectProperties {
    std::string_view type;  // of the object
    std::vector<ObjectProperty> list;
};

ObjectProperties properties_of(IOThread& thread);
ObjectProperties properties_of(std::shared_ptr<ThrottleGroup> group);
// But for `data`: what was a secret stays one.
ObjectProperties properties_of(const Secret& secret);

// "poll-max-ns value must be in range [0, ...]"
Result<void> check_poll_parameters(const PollParameters& parameters);

}  // namespace ashlar
