/**
 * The record of a flow: FLOW_WORDS signed 32-bit words in the shared memory of the shard that owns it. All of a flow's
 * state is here, so that another worker can take it over, or a successor the whole shard, by copying or by looking.
 *
 * Words up to MAC_LOW, timer and handoff words are every flow's, the others TCP's or, from GUEST_PORT, UDP's.
 * TCP's names are RFC 9293's, seen from our end of the connection with the guest: `sndNxt` is the next byte that the
 * guest gets, `rcvNxt` the next byte that we want of it.
 */

export const FLOW_WORDS = 48;

/** One of the states below; 0 is a free record. */
export const STATE = 0;
export const FLAGS = 1;
/** Counts uses of the record, so that a late event of an old use is known. */
export const GENERATION = 2;
export const DEVICE = 3;
/** The guest's address and the one that it connects to. */
export const SOURCE = 4;
export const DESTINATION = 5;
/** Guest's port << 16 | remote port. */
export const PORTS = 6;
export const FD = 7;
/** Queue pair whose receive queue the guest's segments go to. */
export const PAIR = 8;
/** The guest's MAC address: 2 bytes, 4 bytes. */
export const MAC_HIGH = 9;
export const MAC_LOW = 10;

export const ISS = 11;
export const SND_UNA = 12;
export const SND_NXT = 13;
/** The highest `sndNxt` so far: what lies between the two is sent again. */
export const SND_MAX = 14;
/** Bytes the guest takes beyond `sndUna`. */
export const SND_WND = 15;
/** The guest's window scale; -1: it has none, and so have we (RFC 7323 §2.2). */
export const SND_WND_SHIFT = 16;
/** Payload bytes of a segment to the guest. */
export const MSS = 17;
export const IRS = 18;
export const RCV_NXT = 19;
/** Right edge of the window that the guest was shown. */
export const RCV_ADV = 20;
/** What the socket still takes, as we know it, in bytes. */
export const SEND_SPACE = 21;
/** The kernel's SO_PEEK_OFF of the socket; -1: not set. */
export const PEEK_OFFSET = 22;
export const DUP_ACKS = 23;
/** Retransmissions or probes in a row without an answer. */
export const RETRIES = 24;
/** When to send again or to probe, ms; counts while something is unacknowledged or waits for a window. */
export const RTO_DEADLINE = 25;
/** When the flow was last heard of from either side, ms. */
export const LAST_ACTIVE = 26;

export const TIMER_NEXT = 27;
export const TIMER_PREV = 28;
export const TIMER_SLOT = 29;
export const TIMER_DEADLINE = 30;
/** Chains kept until the socket takes them: indices of held entries, -1: none. */
export const HELD_FIRST = 32;
export const HELD_LAST = 33;
export const HELD_BYTES = 34;
/** The worker that handed the last packet over, and how many in a row it handed over. */
export const FOREIGN_WORKER = 35;
export const FOREIGN_RUN = 36;
/** 1 while the flow waits, after its move, for packets that were on their way to its old owner; see handoff.ts. */
export const BARRIER = 37;
/** Segments in a row that the guest sent on another pair than PAIR. */
export const STRAY_RUN = 38;
/** Bytes that the guest has acknowledged and the socket still keeps. */
export const ACKNOWLEDGED = 39;
/** Device number, with UDP_KEY for UDP: what tells flows with the same addresses and ports apart. */
export const KEY = 40;
/** Guest's port << 16: with SOURCE and KEY it names the flow's mapping (RFC 4787 §4.1). */
export const GUEST_PORT = 41;
/** The other flows of the mapping that this worker owns, in a circle. */
export const MAPPING_NEXT = 42;
export const MAPPING_PREV = 43;
/** Datagrams that the next call to receive asks for. */
export const RECEIVE_BATCH = 44;

/** Bit of KEY, beyond the numbers of devices. */
export const UDP_KEY = 256;

/** States. What lies between ESTABLISHED and closed is told by the flags: either side may finish first. */
export const FREE = 0;
/** A SYN came; the socket connects. */
export const CONNECTING = 1;
/** The socket is connected; our SYN-ACK waits for its acknowledgment. */
export const SYN_RECEIVED = 2;
export const ESTABLISHED = 3;
/** Both sides have finished, the host's first: late FINs of the guest are acknowledged again (RFC 9293 §3.6.1). */
export const TIME_WAIT = 4;
/** The only state of UDP. */
export const UDP_OPEN = 5;

/** Flags. */
/** The socket may have something to read. */
export const READABLE = 1;
/** The socket reported that its peer has finished (EPOLLRDHUP). */
export const PEER_FINISHED = 2;
/** All that the peer sent is read; what follows is our FIN. */
export const END_OF_STREAM = 4;
/** Our FIN was sent: `sndMax` counts it. */
export const FIN_SENT = 8;
/** The guest's FIN came and was passed on: `rcvNxt` counts it. */
export const FIN_RECEIVED = 16;
/** The guest's FIN came behind bytes that the socket hasn't taken yet. */
export const FIN_HELD = 32;
/** The guest must be sent an acknowledgment. */
export const ACK_NOW = 64;
/** The flow is in a list of those that have something for the guest. */
export const LISTED = 128;
/** The guest is to be sent an acknowledgment with the next segment, or soon without one. */
export const ACK_LATER = 256;
/** The socket's receive buffer was made large. */
export const BULK = 512;
/** The socket's peer is the host itself. */
export const LOOPBACK = 1024;
/** UDP: the peer has answered. */
export const ANSWERED = 2048;
/** UDP: the kernel cuts nothing up for this socket (UDP_SEGMENT). */
export const NO_SEGMENTS = 4096;
/** What the guest has acknowledged stays in the socket until all is read; see nat/socketReads.ts. */
export const READ_FIRST = 8192;
