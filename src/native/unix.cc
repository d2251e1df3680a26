/** Descriptors, and UNIX stream sockets that pass them (unix(7)). */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "arguments.h"
#include "exports.h"
#include "owned_fd.h"

namespace slipway {
namespace {

constexpr uint32_t kMaxReceivedFds = 64;
/** SCM_MAX_FD of the kernel: it refuses to send more with one message. */
constexpr uint32_t kMaxSentFds = 253;
constexpr int kBacklog = 128;
constexpr int kStreamType = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

/** Room for the ancillary data of one message, aligned as CMSG_FIRSTHDR wants it. */
template <uint32_t MaxFds>
struct ControlBuffer {
  alignas(cmsghdr) char bytes[CMSG_SPACE(MaxFds * sizeof(int))];
};
static_assert(sizeof(ControlBuffer<kMaxReceivedFds>) == CMSG_LEN(kMaxReceivedFds * sizeof(int)),
              "padding would let the kernel pass a descriptor more than promised");

/** Calls a function that returns -1 with errno again while signals interrupt it. */
template <typename Call>
auto uninterrupted(Call call) {
  decltype(call()) outcome;
  do outcome = call();
  while (outcome < 0 && errno == EINTR);
  return outcome;
}

std::string linkOf(int fd) {
  char target[64];
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  ssize_t length = readlink(path.c_str(), target, sizeof target);
  return length < 0 ? std::string() : std::string(target, static_cast<size_t>(length));
}

const char *kindOf(int fd, const struct stat &status) {
  // The link first: an eventfd's mode tells no type.
  if (linkOf(fd) == "anon_inode:[eventfd]") return "eventfd";
  if (S_ISREG(status.st_mode)) return "file";
  if (S_ISSOCK(status.st_mode)) return "socket";
  if (S_ISFIFO(status.st_mode)) return "pipe";
  return "other";
}

Napi::Value fdInfo(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int fd = fdArgument(info, 0, "fstat");
  struct stat status;
  checked(env, "fstat", fstat(fd, &status));
  Napi::Object result = Napi::Object::New(env);
  result.Set("kind", kindOf(fd, status));
  result.Set("size", Napi::Number::New(env, static_cast<double>(status.st_size)));
  return result;
}

void setNonBlocking(const Napi::CallbackInfo &info) {
  int fd = fdArgument(info, 0, "fcntl");
  int flags = checked(info.Env(), "fcntl", fcntl(fd, F_GETFL));
  checked(info.Env(), "fcntl", fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

sockaddr_un addressArgument(const Napi::CallbackInfo &info, const char *syscall) {
  std::string path = textArgument(info, 0, syscall);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // An empty path would ask the kernel for a name of its own choice.
  if (path.empty()) throw systemError(info.Env(), syscall, EINVAL, "the path is empty");
  if (path.size() >= sizeof address.sun_path) throw systemError(info.Env(), syscall, ENAMETOOLONG);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Napi::Value unixListen(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  sockaddr_un address = addressArgument(info, "bind");
  OwnedFd fd(checked(env, "socket", socket(AF_UNIX, kStreamType, 0)));
  checked(env, "bind", bind(fd.get(), reinterpret_cast<sockaddr *>(&address), sizeof address));
  checked(env, "listen", listen(fd.get(), kBacklog));
  return Napi::Number::New(env, fd.release());
}

Napi::Value unixConnect(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  sockaddr_un address = addressArgument(info, "connect");
  OwnedFd fd(checked(env, "socket", socket(AF_UNIX, kStreamType, 0)));
  checked(env, "connect", connect(fd.get(), reinterpret_cast<sockaddr *>(&address), sizeof address));
  return Napi::Number::New(env, fd.release());
}

Napi::Value unixAccept(const Napi::CallbackInfo &info) {
  int fd = fdArgument(info, 0, "accept4");
  int accepted = uninterrupted([&] { return accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
  return Napi::Number::New(info.Env(), accepted < 0 ? -errno : accepted);
}

/** Bytes of argument `index`, a Uint8Array. */
iovec bytesArgument(const Napi::CallbackInfo &info, size_t index, const char *syscall) {
  napi_typedarray_type type;
  size_t length = 0;
  void *data = nullptr;
  napi_value buffer;
  size_t byteOffset;
  bool valid = info[index].IsTypedArray() && napi_get_typedarray_info(info.Env(), info[index], &type, &length, &data,
                                                                      &buffer, &byteOffset) == napi_ok;
  if (!valid || type != napi_uint8_array) throw systemError(info.Env(), syscall, EINVAL, "expected a Uint8Array");
  return iovec{data, length};
}

Napi::Value unixReceive(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int fd = fdArgument(info, 0, "recvmsg");
  iovec bytes = bytesArgument(info, 1, "recvmsg");
  uint64_t offset = unsignedArgument(info, 2, "recvmsg", bytes.iov_len);
  // At least one byte: a length of 0 would look like the end of the file.
  uint64_t length = unsignedArgument(info, 3, "recvmsg", bytes.iov_len - offset);
  if (length == 0) throw systemError(env, "recvmsg", EINVAL, "no room for a byte");
  iovec part = {static_cast<uint8_t *>(bytes.iov_base) + offset, length};
  ControlBuffer<kMaxReceivedFds> control;
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  ssize_t received = uninterrupted([&] { return recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
  if (received < 0 && errno == EAGAIN) return env.Undefined();
  if (received < 0) throw systemError(env, "recvmsg", errno);

  Napi::Array fds = Napi::Array::New(env);
  for (cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int passed;
      std::memcpy(&passed, CMSG_DATA(header) + i * sizeof passed, sizeof passed);
      fds.Set(fds.Length(), Napi::Number::New(env, passed));
    }
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("length", Napi::Number::New(env, static_cast<double>(received)));
  result.Set("fds", fds);
  result.Set("truncated", Napi::Boolean::New(env, (message.msg_flags & MSG_CTRUNC) != 0));
  return result;
}

Napi::Value unixSend(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int fd = fdArgument(info, 0, "sendmsg");
  iovec bytes = bytesArgument(info, 1, "sendmsg");
  uint64_t offset = unsignedArgument(info, 2, "sendmsg", bytes.iov_len);
  std::vector<int> fds = integersArgument(info, 3, "sendmsg", INT32_MAX, kMaxSentFds);
  iovec part = {static_cast<uint8_t *>(bytes.iov_base) + offset, bytes.iov_len - offset};
  // unix(7): a stream socket carries descriptors only along with at least one byte.
  if (part.iov_len == 0) throw systemError(env, "sendmsg", EINVAL, "nothing to send");
  ControlBuffer<kMaxSentFds> control = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent = uninterrupted([&] { return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
  if (sent < 0 && errno == EAGAIN) return Napi::Number::New(env, 0);
  if (sent < 0) throw systemError(env, "sendmsg", errno);
  return Napi::Number::New(env, static_cast<double>(sent));
}

Napi::Value socketPair(const Napi::CallbackInfo &info) {
  int fds[2];
  checked(info.Env(), "socketpair", socketpair(AF_UNIX, kStreamType, 0, fds));
  Napi::Array pair = Napi::Array::New(info.Env());
  pair.Set(0u, Napi::Number::New(info.Env(), fds[0]));
  pair.Set(1u, Napi::Number::New(info.Env(), fds[1]));
  return pair;
}

}  // namespace

void exportUnix(Exports &exports) {
  exports.setUp<fdInfo>("fdInfo");
  exports.setUp<setNonBlocking>("setNonBlocking");
  exports.setUp<unixListen>("unixListen");
  exports.setUp<unixConnect>("unixConnect");
  exports.setUp<unixAccept>("unixAccept");
  exports.setUp<unixReceive>("unixReceive");
  exports.setUp<unixSend>("unixSend");
  exports.setUp<socketPair>("socketPair");
}

}  // namespace slipway
