#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "helpers.h"

namespace {

// Ends a run that hangs where no deadline of a test's does.
constexpr unsigned kLongestRunSeconds = 600;

void allow_many_descriptors() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);  // as Node does: sendfile(2) to a closed socket raises it
  ::alarm(kLongestRunSeconds);
  allow_many_descriptors();
  zerocopy::test::install_trampolines();
  zerocopy::Mounts::instance()
      .any_served();  // no test has a descriptor more for having been the first
  return doctest::Context(argc, argv).run();
}
