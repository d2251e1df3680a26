/** UDP sockets: one system call for many datagrams, over iovecs that lie in regions. */
#include <time.h>  // before errqueue.h, which lacks it

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "exports.h"
#include "owned_fd.h"
#include "scratch.h"
#include "sockets.h"

namespace slipway {
namespace {

/** Datagrams of one call. */
constexpr uint32_t kMaxMessages = 64;
/** More datagrams than a socket's receive buffer holds. */
constexpr int kMaxQueued = 1024;

/**
 * Binds to the port that `sibling` has. The kernel lets several sockets have it if all of them say so (SO_REUSEPORT). A socket
 * that gets a port of the kernel's choice mustn't say so before: it could be given one that others share.
 */
int shareLocalPort(int fd, int sibling) {
  sockaddr_in local = {};
  socklen_t length = sizeof local;
  if (getsockname(sibling, reinterpret_cast<sockaddr *>(&local), &length) != 0) return -1;
  if (setFlag(sibling, SOL_SOCKET, SO_REUSEPORT) != 0 || setFlag(fd, SOL_SOCKET, SO_REUSEPORT) != 0) return -1;
  local.sin_addr.s_addr = htonl(INADDR_ANY);
  return bind(fd, reinterpret_cast<const sockaddr *>(&local), sizeof local);
}

/** Drops what came while the socket had its port and not yet its peer: it is anybody's. What another CPU is just delivering may slip through. */
void dropStrangers(int fd) {
  for (int n = 0; n < kMaxQueued && recv(fd, nullptr, 0, MSG_DONTWAIT) >= 0; n++) continue;
}

int32_t udpSocket(ThreadState &, uint32_t address, uint32_t port, int32_t sibling) {
  if (port > UINT16_MAX) return -EINVAL;
  OwnedFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return -errno;
  if (sibling >= 0 && shareLocalPort(fd.get(), sibling) != 0) return -errno;
  if (connectTo(fd.get(), address, static_cast<uint16_t>(port)) != 0) return -errno;
  // ip(7): ICMP errors are queued with all that they say.
  if (setFlag(fd.get(), IPPROTO_IP, IP_RECVERR) != 0) return -errno;
  dropStrangers(fd.get());
  return fd.release();
}

/** The messages of a batch, as the kernel wants them: their iovecs lie one behind the other. */
class Batch {
 public:
  /** Returns 0, or -errno as `gatherIovecs` does. */
  int32_t gather(ThreadState &state, uint32_t first, uint32_t count, uint32_t data) {
    if (count > kMaxMessages || !state.iovecs.usable(state.env)) return -EINVAL;
    if ((uint64_t{first} + count) * 3 > state.iovecs.length) return -EINVAL;
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
      uint32_t parts = __atomic_load_n(&state.iovecs.data[(first + i) * 3], __ATOMIC_RELAXED);
      if (parts > state.kernelIovecs.size() - total) return -EINVAL;
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &state.kernelIovecs[total];
      messages_[i].msg_hdr.msg_iovlen = parts;
      total += parts;
    }
    return gatherIovecs(state, data, total);
  }

  mmsghdr *messages() { return messages_.data(); }

 private:
  std::array<mmsghdr, kMaxMessages> messages_;
};

int32_t sendMessages(ThreadState &state, int32_t fd, uint32_t first, uint32_t count, uint32_t data) {
  Batch batch;
  int32_t refusal = batch.gather(state, first, count, data);
  if (refusal != 0) return refusal;
  return result(sendmmsg(fd, batch.messages(), count, MSG_DONTWAIT | MSG_NOSIGNAL));
}

int32_t receiveMessages(ThreadState &state, int32_t fd, uint32_t first, uint32_t count, uint32_t data) {
  Batch batch;
  int32_t refusal = batch.gather(state, first, count, data);
  if (refusal != 0) return refusal;
  int32_t received = result(recvmmsg(fd, batch.messages(), count, MSG_DONTWAIT | MSG_TRUNC, nullptr));
  for (int32_t i = 0; i < received; i++) state.iovecs.data[(first + i) * 3 + 2] = batch.messages()[i].msg_len;
  return received;
}

/** udp(7), UDP_SEGMENT: the kernel cuts one message into datagrams. */
int32_t sendSegments(ThreadState &state, int32_t fd, uint32_t first, uint32_t count, uint32_t segment) {
  if (segment > UINT16_MAX) return -EINVAL;
  int32_t refusal = gatherIovecs(state, first, count);
  if (refusal != 0) return refusal;
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {};
  msghdr message = {};
  message.msg_iov = state.kernelIovecs.data();
  message.msg_iovlen = count;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  auto size = static_cast<uint16_t>(segment);
  std::memcpy(CMSG_DATA(header), &size, sizeof size);
  return result(sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/** The ICMP error in a message from the error queue, as type << 8 | code; 0 for errors of other origin. */
int32_t icmpErrorOf(msghdr &message) {
  for (cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != IPPROTO_IP || header->cmsg_type != IP_RECVERR) continue;
    sock_extended_err error;
    std::memcpy(&error, CMSG_DATA(header), sizeof error);
    if (error.ee_origin == SO_EE_ORIGIN_ICMP) return error.ee_type << 8 | error.ee_code;
  }
  return 0;
}

int32_t takeError(ThreadState &, int32_t fd) {
  alignas(cmsghdr) uint8_t control[512];
  msghdr message = {};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  return recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0 ? -errno : icmpErrorOf(message);
}

}  // namespace

void exportDatagrams(Exports &exports) {
  exports.hot<udpSocket>("udpSocket");
  exports.hot<sendMessages>("sendmmsg");
  exports.hot<receiveMessages>("recvmmsg");
  exports.hot<sendSegments>("sendSegments");
  exports.hot<takeError>("takeError");
}

}  // namespace slipway
