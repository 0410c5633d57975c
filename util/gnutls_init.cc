#include "util/gnutls_init.h"

#include <gnutls/gnutls.h>

namespace ashlar {

Result<void> init_gnutls() {
    static const int ret = gnutls_global_init();
    if (ret < 0)
        return fail("GnuTLS cannot be initialised: {}", gnutls_strerror(ret));
    return {};
}

}  // namespace ashlar
