#include "opening.h"

#include <fcntl.h>

#include <string>

#include "helpers.h"
#include "mounts.h"

namespace zerocopy::test {
namespace {

// What is mounted, and for as long as it lives nothing but this.
class OnlyMount {
 public:
  explicit OnlyMount(const std::string& line) : real_(content_of_mountinfo()) { become(line); }
  ~OnlyMount() { become(real_); }

 private:
  static std::string content_of_mountinfo() {
    const UniqueFd fd(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    std::string text;
    char block[4096];
    for (ssize_t n; (n = ::read(fd.get(), block, sizeof block)) > 0;)
      text.append(block, static_cast<size_t>(n));
    return text;
  }
  void become(const std::string& text) {
    const int reads = mountinfo_.reads();
    mountinfo_.say(text);
    CHECK(eventually([&] { return Mounts::instance().any_served(), mountinfo_.reads() > reads; }));
  }

  const std::string real_;
  FakeMountinfo mountinfo_;
};

TEST_CASE("what is cached is opened at once") {
  DescriptorGuard guard;
  TestFile file(10);
  const sys::Result opened = open_at_once(file.path().c_str(), O_RDONLY);
  REQUIRE(opened.ok());
  const UniqueFd fd(static_cast<int>(opened.value));
  CHECK(difference(content_of(fd.get()), pattern(0, 10)) == "");
  const int error = open_at_once((file.path() + "-not").c_str(), O_RDONLY).error;
  CHECK((error == EAGAIN || error == ENOENT));  // that it is not there may be cached too
}

TEST_CASE("what is served is found, and not opened") {
  DescriptorGuard guard;
  TestFile file(10);
  FileFacts facts;
  REQUIRE(inspect(file.fd(), &facts) == 0);
  const std::string device =
      std::to_string(facts.device >> 32) + ":" + std::to_string(facts.device & 0xffffffff);
  std::vector<int> opened_with;
  Seam<&Calls::open_cached> opens([&](const char* path, int flags) {
    opened_with.push_back(flags);
    return kernel.open_cached(path, flags);
  });
  SUBCASE("it is") {
    OnlyMount mount("40 27 " + device + " / / rw - fuse.sshfs host:/ rw\n");
    CHECK(open_at_once(file.path().c_str(), O_RDONLY).error == EAGAIN);
    CHECK(opened_with == std::vector<int>{O_PATH});
  }
  SUBCASE("something else is") {
    OnlyMount mount("40 27 " + device +
                    " / / rw - ext4 /dev/x rw\n41 27 0:99 / /x rw - nfs x rw\n");
    const sys::Result opened = open_at_once(file.path().c_str(), O_RDONLY);
    CHECK(opened.ok());
    const UniqueFd fd(static_cast<int>(opened.value));
    CHECK(opened_with == std::vector<int>{O_PATH, O_RDONLY});
  }
  SUBCASE("nothing is") {
    OnlyMount mount("40 27 " + device + " / / rw - ext4 /dev/x rw\n");
    const sys::Result opened = open_at_once(file.path().c_str(), O_RDONLY);
    CHECK(opened.ok());
    const UniqueFd fd(static_cast<int>(opened.value));
    CHECK(opened_with == std::vector<int>{O_RDONLY});
  }
}

TEST_CASE("a path leads to the device of what the kernel knows of it") {
  DescriptorGuard guard;
  TestFile file(10);
  FileFacts here, root, current;
  const UniqueFd slash(::open("/", O_RDONLY | O_CLOEXEC)), dot(::open(".", O_RDONLY | O_CLOEXEC));
  REQUIRE(inspect(file.fd(), &here) == 0);
  REQUIRE(inspect(slash.get(), &root) == 0);
  REQUIRE(inspect(dot.get(), &current) == 0);
  CHECK(device_towards(file.path().c_str()) == here.device);
  CHECK(device_towards((file.path() + "-not").c_str()) == here.device);
  CHECK(device_towards((file.path() + "-not/a//b/").c_str()) == here.device);
  CHECK(device_towards("/no-such-thing/b") == root.device);
  CHECK(device_towards("//") == root.device);
  CHECK(device_towards("no-such-thing") == current.device);
  CHECK(device_towards("no-such-thing/b/") == current.device);
  Seam<&Calls::open_cached> opens([](const char*, int) { return fail_with(ENOSYS); });
  CHECK(device_towards(file.path().c_str()) == 0);
}

}  // namespace
}  // namespace zerocopy::test
