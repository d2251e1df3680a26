/** Errors that set-up functions throw: what the kernel refused, in the form that Node's own errors have. */
#pragma once

#include <napi.h>

namespace slipway {

/**
 * An Error with `code` ("ENOENT"), `errno` (positive) and `syscall`. Its message is "<syscall>: <text>", the text being
 * the system's for that errno unless `detail` is given.
 */
Napi::Error systemError(Napi::Env env, const char *syscall, int error, const char *detail = nullptr);

/** Throws the C++ form of `systemError` for the current errno if `result` is negative; returns it otherwise. */
int checked(Napi::Env env, const char *syscall, int result);

}  // namespace slipway
