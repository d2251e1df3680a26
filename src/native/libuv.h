/**
 * The few functions of libuv that the addon uses, declared by hand: every Node binary exports them and their ABI is
 * fixed for libuv 1.x, but neither npm's node-api-headers nor every distribution's Node brings uv.h. Handles stay
 * opaque; their size comes from uv_handle_size at run time.
 */
#pragma once

#include <cstddef>

extern "C" {

struct uv_loop_s;
struct uv_handle_s;
struct uv_poll_s;

/** uv_handle_type (libuv 1.x, uv.h): the value of UV_POLL. */
constexpr int UV_POLL = 8;
/** uv_poll_event. */
constexpr int UV_READABLE = 1;
constexpr int UV_WRITABLE = 2;

size_t uv_handle_size(int type);
void *uv_handle_get_data(const uv_handle_s *handle);
void uv_handle_set_data(uv_handle_s *handle, void *data);
void uv_close(uv_handle_s *handle, void (*closed)(uv_handle_s *));
int uv_poll_init(uv_loop_s *loop, uv_poll_s *handle, int fd);
int uv_poll_start(uv_poll_s *handle, int events, void (*ready)(uv_poll_s *, int status, int events));
const char *uv_err_name(int error);
}
