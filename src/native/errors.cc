/** Errors that set-up functions throw. */
#include "errors.h"

#include <cerrno>
#include <string>
#include <system_error>

#include "libuv.h"

namespace slipway {

Napi::Error systemError(Napi::Env env, const char *syscall, int error, const char *detail) {
  std::string text = detail != nullptr ? detail : std::generic_category().message(error);
  Napi::Error result = Napi::Error::New(env, std::string(syscall) + ": " + text);
  result.Set("code", Napi::String::New(env, uv_err_name(-error)));
  result.Set("errno", Napi::Number::New(env, error));
  result.Set("syscall", Napi::String::New(env, syscall));
  return result;
}

int checked(Napi::Env env, const char *syscall, int result) {
  if (result < 0) throw systemError(env, syscall, errno);
  return result;
}

}  // namespace slipway
