/** What calls on TCP and on UDP sockets have in common. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdint>

namespace slipway {

/** A result as hot functions return it. */
inline int32_t result(ssize_t value) { return value < 0 ? -errno : static_cast<int32_t>(value); }

inline int setFlag(int fd, int level, int option) {
  int one = 1;
  return setsockopt(fd, level, option, &one, sizeof one);
}

/** connect(2) to an IPv4 address and a port, both of host order. */
inline int connectTo(int fd, uint32_t address, uint16_t port) {
  sockaddr_in peer = {};
  peer.sin_family = AF_INET;
  peer.sin_addr.s_addr = htonl(address);
  peer.sin_port = htons(port);
  return connect(fd, reinterpret_cast<const sockaddr *>(&peer), sizeof peer);
}

}  // namespace slipway
