/* Frames to the gateway and back: ARP (RFC 826), DHCP (RFC 2131), TCP (RFC 9293). No offloads. */
#pragma once
#include "card.h"

/* Asks for the gateway's MAC address on a pair. Doesn't wait. */
void arp_ask(int pair);
/* The same without a notification. */
void arp_ask_quietly(int pair);
/* Takes an answer from a pair's receive queue, and gives the buffer back. */
void arp_answered(int pair);
/* Both. */
static inline void arp(int pair) { arp_ask(pair); arp_answered(pair); }
/* DISCOVER; the address offered. */
uint32_t dhcp_discover(int pair);
/* A connection; its segments go out on the pair, and are awaited there, or on both. */
struct connection { int pair; uint16_t from, to; uint32_t next, expected; int anywhere; };
/* Connects to a port of 10.0.2.2. False: refused. */
int tcp_open(struct connection *connection, int pair, uint16_t from, uint16_t to);
/* Sends messages, each of which is to come back. */
void tcp_echo(struct connection *connection, int rounds);
void tcp_close(struct connection *connection);
