// What tests need of the system and Node does not offer.
#include <node_api.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "refuse.h"

// setBuffers(fd, bytes): shrinks a socket's buffers, so that a small file exercises every path.
static napi_value set_buffers(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  int fd = -1, bytes = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_int32(env, arguments[0], &fd);
  napi_get_value_int32(env, arguments[1], &bytes);
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) != 0)
    napi_throw_error(env, NULL, "setsockopt failed");
  return NULL;
}

// refuse(names, error): as refuse.h, from here on.
static napi_value refuse_calls(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  char names[512] = "", error[32] = "";
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_string_utf8(env, arguments[0], names, sizeof names, NULL);
  napi_get_value_string_utf8(env, arguments[1], error, sizeof error, NULL);
  const char* complaint = refuse(names, error);
  if (complaint) napi_throw_error(env, NULL, complaint);
  return NULL;
}

// errnoOf(name): as refuse.h.
static napi_value errno_of_call(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value name_argument, result;
  char name[32] = "";
  napi_get_cb_info(env, info, &count, &name_argument, NULL, NULL);
  napi_get_value_string_utf8(env, name_argument, name, sizeof name, NULL);
  napi_create_int32(env, errno_of(name), &result);
  return result;
}

static const struct {
  const char* name;
  int resource;
} kLimits[] = {{"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC}, {"as", RLIMIT_AS}};

// setLimit(name, value): sets a limit of this process (setrlimit(2)); below 0, as high as it may be.
static napi_value set_limit(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  char name[16] = "";
  int64_t value = -1;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_string_utf8(env, arguments[0], name, sizeof name, NULL);
  napi_get_value_int64(env, arguments[1], &value);
  for (size_t i = 0; i < sizeof kLimits / sizeof kLimits[0]; ++i) {
    struct rlimit limit;
    if (strcmp(kLimits[i].name, name) != 0) continue;
    if (getrlimit(kLimits[i].resource, &limit) != 0) break;
    limit.rlim_cur = value < 0 ? limit.rlim_max : (rlim_t)value;
    if (setrlimit(kLimits[i].resource, &limit) == 0) return NULL;
  }
  napi_throw_error(env, NULL, "setrlimit failed");
  return NULL;
}

static void add(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  add(env, exports, "setBuffers", set_buffers);
  add(env, exports, "refuse", refuse_calls);
  add(env, exports, "errnoOf", errno_of_call);
  add(env, exports, "setLimit", set_limit);
  return exports;
}
