// What the programs that serve do first: the name for messages, SIGPIPE ignored, as many descriptors as are allowed.
#pragma once

namespace ashlar {

void prepare_process(const char* argv0);

}  // namespace ashlar
