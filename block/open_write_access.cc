#include "block/open_write_access.h"

#include "block/graph_transaction.h"

namespace ashlar {

Result<void> acquire_write_access(BdrvChild& child) {
    using enum BlockPerm;
    GraphTransaction transaction;
    transaction.set_edge_perms(child, {ConsistentRead | Write | Resize, ConsistentRead | WriteUnchanged});
    transaction.set_flags(child.node(), child.node().flags());  // unchanged: it is to be asked
    return transaction.commit();
}

}  // namespace ashlar
