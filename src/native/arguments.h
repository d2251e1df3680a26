/**
 * Arguments of set-up functions, checked: what doesn't fit is refused with EINVAL, in the name of the function's system
 * call.
 */
#pragma once

#include <napi.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "errors.h"

namespace slipway {

/** An integer of 0 … `max` (at most 2^53). */
inline uint64_t unsignedArgument(const Napi::CallbackInfo &info, size_t index, const char *syscall, uint64_t max) {
  double number = info[index].IsNumber() ? info[index].As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= static_cast<double>(max) && number == std::floor(number))) {
    std::string detail = "argument " + std::to_string(index + 1) + " must be an integer of 0 to " + std::to_string(max);
    throw systemError(info.Env(), syscall, EINVAL, detail.c_str());
  }
  return static_cast<uint64_t>(number);
}

inline int fdArgument(const Napi::CallbackInfo &info, size_t index, const char *syscall) {
  return static_cast<int>(unsignedArgument(info, index, syscall, INT32_MAX));
}

/** Text without zero bytes: it becomes a C string. */
inline std::string textArgument(const Napi::CallbackInfo &info, size_t index, const char *syscall) {
  std::string text = info[index].IsString() ? info[index].As<Napi::String>().Utf8Value() : std::string(1, '\0');
  if (text.find('\0') != std::string::npos) {
    throw systemError(info.Env(), syscall, EINVAL, "expected a string without zero bytes");
  }
  return text;
}

/** An array of integers of 0 … `max`, at most `maxCount` of them. */
inline std::vector<int> integersArgument(const Napi::CallbackInfo &info, size_t index, const char *syscall, int max,
                                         uint32_t maxCount) {
  std::string detail =
      "expected an array of at most " + std::to_string(maxCount) + " integers of 0 to " + std::to_string(max);
  if (!info[index].IsArray()) throw systemError(info.Env(), syscall, EINVAL, detail.c_str());
  auto array = info[index].As<Napi::Array>();
  if (array.Length() > maxCount) throw systemError(info.Env(), syscall, EINVAL, detail.c_str());
  std::vector<int> integers;
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::Value value = array.Get(i);
    double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number <= max && number == std::floor(number))) {
      throw systemError(info.Env(), syscall, EINVAL, detail.c_str());
    }
    integers.push_back(static_cast<int>(number));
  }
  return integers;
}

}  // namespace slipway
