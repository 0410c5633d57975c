#include "tools/prepare_process.h"

#include "util/report.h"

#include <signal.h>
#include <sys/resource.h>

namespace ashlar {

void prepare_process(const char* argv0) {
    set_program_name(argv0);
    signal(SIGPIPE, SIG_IGN);
    rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

}  // namespace ashlar
