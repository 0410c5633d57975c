#include "block/filter/filter_driver.h"

namespace ashlar {

const OptionSet<FilterOptions>& FilterOptions::options() {
    static const auto set =
        OptionSet<FilterOptions>("filter").required("file", &FilterOptions::file, "the node that is shown");
    return set;
}

}  // namespace ashlar
