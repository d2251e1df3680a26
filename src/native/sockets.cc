/** TCP sockets: one system call each, over iovecs that lie in regions. */
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "errors.h"
#include "exports.h"
#include "owned_fd.h"
#include "scratch.h"
#include "sockets.h"

namespace slipway {
namespace {

int32_t tcpSocket(ThreadState &) {
  OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return -errno;
  // No delay: the guest's TCP has already decided what goes together.
  if (setFlag(fd.get(), IPPROTO_TCP, TCP_NODELAY) != 0) return -errno;
  // In line: urgent bytes count in the stream that is mirrored.
  if (setFlag(fd.get(), SOL_SOCKET, SO_OOBINLINE) != 0) return -errno;
  return fd.release();
}

/** tcp(7): Reno, which every kernel has and everybody may use, sends without pacing timers. Of a connected socket they would stay. */
int32_t unpace(ThreadState &, int32_t fd) {
  static constexpr char reno[] = "reno";
  return result(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, reno, sizeof reno - 1));
}

int32_t connect4(ThreadState &, int32_t fd, uint32_t address, uint32_t port) {
  if (port > UINT16_MAX) return -EINVAL;
  return result(connectTo(fd, address, static_cast<uint16_t>(port)));
}

/** A message over the iovecs that `gatherIovecs` left. */
msghdr messageOver(ThreadState &state, uint32_t count) {
  msghdr message = {};
  message.msg_iov = state.kernelIovecs.data();
  message.msg_iovlen = count;
  return message;
}

int32_t sendMessage(ThreadState &state, int32_t fd, uint32_t first, uint32_t count, int32_t flags) {
  int32_t refusal = gatherIovecs(state, first, count);
  if (refusal != 0) return refusal;
  msghdr message = messageOver(state, count);
  return result(sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | flags));
}

int32_t receiveMessage(ThreadState &state, int32_t fd, uint32_t first, uint32_t count, int32_t flags) {
  int32_t refusal = gatherIovecs(state, first, count);
  if (refusal != 0) return refusal;
  msghdr message = messageOver(state, count);
  return result(recvmsg(fd, &message, MSG_DONTWAIT | flags));
}

/** tcp(7): with MSG_TRUNC a stream socket drops the bytes and writes nothing, so that no buffer is needed. */
int32_t discard(ThreadState &, int32_t fd, uint32_t length) {
  return result(recv(fd, nullptr, length, MSG_TRUNC | MSG_DONTWAIT));
}

int32_t shutDown(ThreadState &, int32_t fd, int32_t how) { return result(shutdown(fd, how)); }

/** close(2): after EINTR the descriptor is gone all the same; to close it again could hit another's. */
int32_t closeFd(ThreadState &, int32_t fd) { return close(fd) == 0 || errno == EINTR ? 0 : -errno; }

/** socket(7), SO_LINGER: with a time of zero, close drops what is queued and sends a RST. */
int32_t closeReset(ThreadState &state, int32_t fd) {
  linger atOnce = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &atOnce, sizeof atOnce);
  return closeFd(state, fd);
}

int32_t socketError(ThreadState &, int32_t fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : -errno;
}

int32_t setPeekOffset(ThreadState &, int32_t fd, int32_t offset) {
  return result(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
}

/** tcp_set_rcvlowat() in Linux: asking for so many bytes at once makes room for twice as many, and leaves autotuning on. */
int32_t growReceiveBuffer(ThreadState &, int32_t fd, int32_t bytes) {
  int one = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) != 0) return -errno;
  return result(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one));
}

/** socket(7), SO_RCVBUF: ends the kernel's autotuning of the buffer. */
int32_t fixReceiveBuffer(ThreadState &, int32_t fd, int32_t bytes) {
  return result(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes));
}

/** tcp(7), TCP_WINDOW_CLAMP: bounds the window, not the buffer. */
int32_t clampWindow(ThreadState &, int32_t fd, int32_t bytes) {
  return result(setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof bytes));
}

int32_t sendSpace(ThreadState &, int32_t fd) {
  uint32_t memory[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof memory;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) != 0) return -errno;
  int64_t space = int64_t{memory[SK_MEMINFO_SNDBUF]} - memory[SK_MEMINFO_WMEM_QUEUED];
  return static_cast<int32_t>(std::clamp<int64_t>(space, 0, INT32_MAX));
}

/** Kernels before 6.9 refuse the option on TCP sockets with EOPNOTSUPP. */
Napi::Value probePeekOffset(const Napi::CallbackInfo &info) {
  OwnedFd fd(checked(info.Env(), "socket", socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  int offset = 0;
  int status = setsockopt(fd.get(), SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
  return Napi::Boolean::New(info.Env(), status == 0);
}

}  // namespace

void exportSockets(Exports &exports) {
  exports.hot<tcpSocket>("tcpSocket");
  exports.hot<unpace>("unpace");
  exports.hot<connect4>("connect4");
  exports.hot<sendMessage>("sendmsg");
  exports.hot<receiveMessage>("recvmsg");
  exports.hot<discard>("discard");
  exports.hot<shutDown>("shutdown");
  exports.hot<closeFd>("close");
  exports.hot<closeReset>("closeReset");
  exports.hot<socketError>("socketError");
  exports.hot<setPeekOffset>("setPeekOffset");
  exports.hot<growReceiveBuffer>("growReceiveBuffer");
  exports.hot<fixReceiveBuffer>("fixReceiveBuffer");
  exports.hot<clampWindow>("clampWindow");
  exports.hot<sendSpace>("sendSpace");
  exports.setUp<probePeekOffset>("probePeekOffset");
}

}  // namespace slipway
