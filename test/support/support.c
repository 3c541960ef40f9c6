// What tests need of the system and Node does not offer.
#include <node_api.h>
#include <sys/socket.h>

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

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "setBuffers", NAPI_AUTO_LENGTH, set_buffers, NULL, &function);
  napi_set_named_property(env, exports, "setBuffers", function);
  return exports;
}
